from __future__ import annotations

import grpc
import pytest

from cli import output
from kit.errors import Invalid, Precondition, Violation


def told(capsys: pytest.CaptureFixture[str], error: Invalid | Precondition) -> str:
    output.failure(error, grpc.StatusCode.INVALID_ARGUMENT)
    return capsys.readouterr().err


def test_a_long_list_is_cut_with_its_count_and_a_short_one_is_whole() -> None:
    parts = [f"variant-{number} 1%" for number in range(200)]

    assert output.listed(parts[:2]) == "variant-0 1%, variant-1 1%"
    assert output.listed([]) == ""
    assert output.listed(["x" * 500, "y"]) == f"{'x' * 500}, … and 1 more"
    shown = output.listed(parts)
    assert len(shown) < 110
    assert shown.endswith("and 195 more")


def test_of_several_violations_the_first_is_not_repeated_and_the_others_are_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    violations = [Violation("a", "must be 1"), Violation("b", "must be 2")]
    sentence = told(capsys, Invalid("a must be 1 (and 1 more)", reason="INVALID_REQUEST", violations=violations))

    assert sentence.splitlines() == [
        "a must be 1 (and 1 more)",
        "  b: must be 2",
        "  (INVALID_ARGUMENT INVALID_REQUEST)",
    ]


def test_a_violation_that_says_more_than_the_sentence_stays(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = told(
        capsys, Invalid("the request is wrong", reason="INVALID_REQUEST", violations=[Violation("a", "must be 1")])
    )

    assert "  a: must be 1" in sentence.splitlines()


def test_a_broken_contract_is_told_with_the_ways_around_it(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = told(capsys, Precondition("callers would break", reason="CONTRACT_BROKEN"))

    assert "--draft" in sentence
    assert "another alias" in sentence
