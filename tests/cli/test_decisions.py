from __future__ import annotations

import pytest

from cli import decisions
from tests.cli.routers import decision
from turnout.router.v1 import decision_pb2 as pb


@pytest.mark.parametrize(
    ("of_all", "told"),
    [
        (0, "0 %"),
        (0.0001, "< 0.1 %"),
        (0.001, "0.1 %"),
        (0.1234, "12.3 %"),
        (0.5, "50 %"),
        (0.9995, "> 99.9 %"),
        (1, "100 %"),
    ],
)
def test_shares_are_told_to_a_tenth_and_a_little_is_never_nothing(of_all: float, told: str) -> None:
    assert decisions.share(of_all) == told


def test_it_is_said_which_rule_decided_or_that_none_did() -> None:
    assert decisions.why(decision()) == "rule Spanish matched"
    assert decisions.why(decision(rule_name="")) == "rule rul_1 matched"
    by_weights = decision(evaluation=pb.EVALUATION_DEFAULT_MATCHED, rule="", rule_name="")
    assert decisions.why(by_weights) == "no rule matched: by the variants' weights"
    outside = decision(outside_coverage=True)
    assert decisions.why(outside) == "outside coverage: the baseline, though rule Spanish matched"


def test_what_sticks_to_nothing_says_what_to_do() -> None:
    assert decisions.key(decision()) == "the routing key"
    assert "--key makes it stick" in decisions.key(decision(key_kind=pb.KEY_KIND_REQUEST))
