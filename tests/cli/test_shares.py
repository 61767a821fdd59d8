"""Shares, movement, and the tree of one call, on terminals of any width."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from io import StringIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from cli import output, shares, traces
from tests.cli.routers import trace
from turnout.router.v1 import routing_service_pb2 as pb

names = st.text(
    st.sampled_from(["a", "-", " ", "漢", "é", "👩", "\u200d", "🚀", "\u0301", "_", "W"]), min_size=1, max_size=80
)
parts = st.floats(0, 1)


def answer(given: list[tuple[str, int, float]]) -> pb.SimulateResponse:
    """For many units, which variants and rules of these names share."""
    told = pb.SimulateResponse(revision="2.0", decided_count=100_000)
    for name, count, share in given:
        told.shares.add(variant_slug=name, count=count, share=share, expected_share=share)
        told.rules.add(rule=name, count=count)
        told.comparison.movements.add(
            from_variant=name, from_slug=name, to_variant="x", to_slug=name[::-1], count=count, share=share
        )
    return told


def lines(show: Callable[[], None], width: int) -> list[str]:
    """What is shown on a terminal so wide, but for sentences, which it folds itself."""
    shown = StringIO()

    class Terminal(Console):
        """One that keeps what it shows."""

        def __init__(self, *, width: int) -> None:
            super().__init__(width=width, file=shown, legacy_windows=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(output, "_room", lambda: width)
        patch.setattr(output, "Console", Terminal)
        patch.setattr(output, "say", lambda sentence: None)
        patch.setattr(output, "screen", Terminal(width=width))
        show()
    return shown.getvalue().splitlines()


@given(
    rows=st.lists(st.tuples(names, st.integers(0, 100_000), parts), min_size=1, max_size=3), width=st.integers(20, 200)
)
def test_no_line_of_a_table_is_longer_than_the_terminal(rows: list[tuple[str, int, float]], width: int) -> None:
    told = answer(rows)

    shown = [*lines(lambda: shares.tell(told), width), *lines(lambda: shares.tell_comparison(told), width)]

    assert max(map(cell_len, shown)) <= width
    for _, count, _ in rows:
        assert f"{count:,}" in "\n".join(shown)


@example(name="W", text="\u200d\u200d漢漢", width=21)
@given(name=names, text=names, width=st.integers(20, 200))
def test_no_line_of_a_tree_is_longer_than_the_terminal(name: str, text: str, width: int) -> None:
    told = trace(key=text)
    for rule in told.rules:
        rule.display_name, rule.condition = name, f"context.of == '{text * 3}'"
    told.rules[1].values[0].value_json = text * 3
    told.rules[2].message = text * 3
    for candidate in told.candidates:
        candidate.variant_slug = name
    told.decision.variant_slug = told.decision.rule_name = name
    refused = pb.Trace()
    refused.CopyFrom(told)
    refused.ClearField("decision")
    refused.refusal = text * 3

    for each in (told, refused):
        shown = lines(partial(output.tree, traces.drawn(each, title=f"{name}, revision 2.0")), width)
        assert max(map(cell_len, shown)) <= width


@given(name=names, width=st.integers(20, 200))
def test_no_line_of_facts_that_fit_is_longer_than_the_terminal(name: str, width: int) -> None:
    pairs = [
        ("propensity", "30 % of random keys with this context get it"),
        ("variant", name),
        ("runs", "ver_" + "0" * 32),
    ]

    assert max(map(cell_len, lines(lambda: output.facts(pairs, fits=True), width))) <= width


NARROW = """\
variant    count   share  expected
spanish   70,100  70.1 %    70.1 %
漢漢漢漢  29,900  29.9 %    29.9 %
漢-plain
"""
STACKED = """\
spanish
  count 70,100  share 70.1 %
  expected 70.1 %
漢漢漢漢漢-plain
  count 29,900  share 29.9 %
  expected 29.9 %
"""


def test_a_narrow_terminal_folds_names_without_bars_and_a_narrower_one_has_several_lines_a_row() -> None:
    told = answer([("spanish", 70_100, 0.701), ("漢漢漢漢漢-plain", 29_900, 0.299)])
    told.matched_count = 100

    narrow, stacked = lines(partial(shares.tell, told), 34), lines(partial(shares.tell, told), 30)

    assert [line.rstrip() for line in narrow[:4]] == NARROW.splitlines()
    assert [line.rstrip() for line in stacked[:6]] == STACKED.splitlines()


@pytest.mark.parametrize(
    ("share", "bar"), [(0, ""), (1e-9, "▏"), (0.05, "█"), (0.1, "██"), (0.5, "█" * 10), (1, "█" * 20), (7, "█" * 20)]
)
def test_bars_are_as_long_as_shares(share: float, bar: str) -> None:
    assert shares.bar(share) == bar
