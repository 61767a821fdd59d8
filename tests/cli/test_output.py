from __future__ import annotations

import json
import sys

import grpc
import pytest
from rich.cells import cell_len
from rich.text import Text

from cli import output
from kit.errors import Invalid, Precondition, Violation
from turnout.registry.v1 import deployment_pb2


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


def test_a_violation_that_is_the_sentence_is_not_told_twice(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = "no such scope: nope"
    sentence = told(capsys, Invalid(wrong, reason="SCOPE_UNKNOWN", violations=[Violation("api_key.scopes", wrong)]))

    assert sentence.splitlines() == [wrong, "  (INVALID_ARGUMENT SCOPE_UNKNOWN)"]


def test_a_violation_that_says_more_than_the_sentence_stays(capsys: pytest.CaptureFixture[str]) -> None:
    sentence = told(
        capsys, Invalid("the request is wrong", reason="INVALID_REQUEST", violations=[Violation("a", "must be 1")])
    )

    assert "  a: must be 1" in sentence.splitlines()


@pytest.mark.parametrize("options", [["draft"], [], ["prune"]])
def test_a_broken_contract_is_told_with_the_ways_around_it_that_the_command_has(
    capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    output.tell_failures_of(options)
    sentence = told(capsys, Precondition("callers would break", reason="CONTRACT_BROKEN"))

    assert ("--draft" in sentence) is bool(options)
    assert ("another alias" in sentence) is (options != ["prune"])


def test_what_only_services_say_is_told_as_what_people_type(capsys: pytest.CaptureFixture[str]) -> None:
    violations = [Violation("model", "is not listed (skip_model_check takes it nevertheless)"), Violation("", "b")]
    sentence = told(
        capsys, Invalid("wrong: RejectChangeRequest turns it down", reason="INVALID_REQUEST", violations=violations)
    )

    assert sentence.splitlines()[:3] == [
        "wrong: `turnout changes reject` turns it down",
        "  model: is not listed (--skip-model-check takes it nevertheless)",
        "  b",
    ]


HOSTILE = "a\x1b[31mb\rc\x9bd\u202ee\u2066f\ng\th"


def test_what_others_wrote_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.say(HOSTILE)
    assert capsys.readouterr().out == "a\\x1b[31mb\\rc\\x9bd\\u202ee\\u2066f\ng       h\n"
    output.aside(HOSTILE)
    output.warnings([HOSTILE])
    told(capsys, Invalid(HOSTILE, reason="X", violations=[Violation("y", HOSTILE)]))
    output.screen.print(Text("x ", style="bold").append(HOSTILE, style="red"))
    in_line = "a\\x1b[31mb\\rc\\x9bd\\u202ee\\u2066f\\ng\\th"
    output.facts([("note", HOSTILE)])
    output.table(["note"], [[HOSTILE]])
    shown = capsys.readouterr()
    assert not set(shown.out + shown.err) & set("\x1b\r\x9b\u202e\u2066")
    assert [line.rstrip() for line in shown.out.splitlines()[-3:]] == [f"note  {in_line}", "note", in_line]


def test_json_says_the_same_in_its_own_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    output.as_json(deployment_pb2.Variant(notes=HOSTILE))

    shown = capsys.readouterr().out
    assert json.loads(shown) == {"notes": HOSTILE}
    assert "\\u001b[31mb\\rc\\u009bd\\u202ee\\u2066f\\ng\\th" in shown


def test_a_joiner_that_joins_nothing_is_told_and_one_that_does_stays(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert output.visible("👩\u200d🚀") == "👩\u200d🚀"
    assert output.visible("\u200d\u200d漢 \u200d漢") == "\\u200d\\u200d漢 \\u200d漢"
    # What Rich fails at, as it is.
    monkeypatch.setattr(output, "_room", lambda: 20)
    output.table(["note"], [["\u200d\u200d漢漢" * 9]])
    assert max(map(cell_len, capsys.readouterr().out.splitlines())) <= 20


def test_an_answer_goes_into_a_pipe_as_it_is_and_is_visible_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output.answer("\x1b[31m")
    assert capsys.readouterr().out == "\x1b[31m\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    output.answer("\x1b[31m")
    assert capsys.readouterr().out == "\\x1b[31m\n"


def test_long_cells_are_folded_where_a_terminal_is_narrow_and_never_for_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ["chg_0123456789abcdefghjkmnpqrs", "word " * 20]
    output.table(["change", "what for"], [row])
    assert len(capsys.readouterr().out.splitlines()) == 2
    monkeypatch.setattr(output, "_room", lambda: 70)
    output.table(["change", "what for"], [row])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 70
    assert lines[1].startswith(row[0])
    assert " ".join(" ".join(lines).split()) == f"change what for {row[0]} {' '.join(['word'] * 20)}"


def test_where_folding_is_not_enough_a_row_has_several_lines_and_no_empty_cells(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    version = "ver_" + "0" * 32
    monkeypatch.setattr(output, "_room", lambda: 60)

    output.table(["variant", "weight", "note", "serves", "version"], [["calm", 90, "", "openai/gpt-4o", version]])

    assert capsys.readouterr().out.splitlines() == [
        "calm",
        "  weight 90  serves openai/gpt-4o",
        f"  version {version}",
    ]
