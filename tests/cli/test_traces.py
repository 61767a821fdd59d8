"""The tree of one call's decision."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.console import Console

from cli import output
from cli.traces import drawn
from tests.cli.routers import trace
from turnout.router.v1 import routing_service_pb2 as pb

TREE = """\
guide, revision 2.0
├── rules, asked in order
│   ├── – Off  context.of == 'Off'  (switched off)
│   ├── ✗ English  context.of == 'English'
│   │   └── country = "ES"
│   ├── ? Adults  context.of == 'Adults'
│   │   ├── age is missing
│   │   ├── since does not fit its kind
│   │   └── context.age is missing
│   ├── ? Odd  context.of == 'Odd'
│   │   └── division by zero
│   ├── ✓ Spanish  context.of == 'Spanish'
│   └── · Rest  context.of == 'Rest'  (not reached)
├── coverage 80 %: drew 0.250000 < 0.8, inside
├── the split of Spanish
│   ├── ★ spanish        weight 30  draw 0.750000  score 104.3  propensity 30 %
│   ├──   other-spanish  weight 70  draw 0.125000  score 33.7   propensity 70 %
│   ├──   idle           weight 50  takes no part: it is not active
│   └──   zero           weight 0   takes no part: it has no weight
└── ★ spanish: rule Spanish matched; 30 % of random keys with this context get it; hashed: user-42
"""


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Callable[[pb.Trace], str]:
    def show(traced: pb.Trace) -> str:
        output.tree(drawn(traced, title="guide, revision 2.0"))
        return capsys.readouterr().out

    return show


def test_a_pipe_gets_every_step_in_a_line_without_colour(shown: Callable[[pb.Trace], str]) -> None:
    assert shown(trace()) == TREE


def test_a_terminal_folds_long_lines_and_loses_none_of_them() -> None:
    console = Console(width=40, force_terminal=True, legacy_windows=False)
    with console.capture() as captured:
        console.print(drawn(trace(), title="guide, revision 2.0"))

    text = captured.get()
    assert "\x1b[2m" in text
    assert all(word in text for word in ("other-spanish", "33.7", "division by zero", "not reached"))


def test_without_rules_all_variants_are_candidates(shown: Callable[[pb.Trace], str]) -> None:
    told = trace()
    del told.rules[:]
    told.coverage = 1

    text = shown(told)

    assert "├── no rules\n├── coverage 100 %: everybody\n├── all variants, by their own weights\n" in text


def test_outside_coverage_no_candidate_wins(shown: Callable[[pb.Trace], str]) -> None:
    told = trace(coverage_draw=0.9)
    told.decision.outside_coverage = True

    text = shown(told)

    assert "drew 0.900000 ≥ 0.8, outside, so the baseline is picked" in text
    assert text.count("★") == 1
    assert "★ spanish: outside coverage: the baseline, though rule Spanish matched" in text


def test_a_refusal_is_told_in_the_winners_place(shown: Callable[[pb.Trace], str]) -> None:
    told = trace(refusal="the rule 'Spanish' has no active variant")
    told.ClearField("decision")

    assert shown(told).endswith("└── refused: the rule 'Spanish' has no active variant\n")


def test_what_others_wrote_cannot_steer_a_terminal(shown: Callable[[pb.Trace], str]) -> None:
    told = trace(key="\x1b[31m")
    told.rules[1].display_name = "[red]\x1b]0;x\x07"
    told.rules[1].condition = "context.a ==\n    'x\x1b[2J'"
    told.rules[1].values[0].value_json = '"\x1b"'
    told.candidates[0].variant_slug = "a\nb"

    text = shown(told)

    assert "\x1b" not in text
    assert "✗ [red]\\x1b]0;x\\x07  context.a == 'x\\x1b[2J'\n" in text
    assert "a\\nb" in text
