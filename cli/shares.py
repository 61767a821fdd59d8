"""What many simulated calls come to: shares as bars, movement as a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cli import decisions, output
from turnout.router.v1 import routing_service_pb2 as pb

_BAR: Final = 20
"""Characters of all calls."""
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_BARS: Final = (5, 3)
"""The columns that a narrow terminal does without."""


def tell(answer: pb.SimulateResponse) -> None:
    """How many units each variant and rule got, of many that were decided."""
    count = answer.decided_count
    parts = [f"{answer.matched_count:,} by a rule"] if answer.rules else []
    parts += [f"{answer.outside_count:,} outside coverage"] if answer.outside_count else []
    parts += [f"{answer.refused_count:,} refused"] if answer.refused_count else []
    told = f": {', '.join(parts)}" if parts else ""
    output.say(f"{count:,} decided by revision {answer.revision}{told}")
    output.say("")
    output.table(
        ["variant", "count", "share", "", "expected", ""],
        [
            (
                each.variant_slug,
                f"{each.count:,}",
                decisions.share(each.share),
                bar(each.share),
                decisions.share(each.expected_share),
                bar(each.expected_share),
            )
            for each in answer.shares
        ],
        numbers=["count", "share", "expected"],
        spare=_BARS,
        fits=True,
    )
    if answer.rules:
        output.say("")
        none = ("(none: by weights)", count - answer.matched_count)
        rows: Iterable[tuple[str, int]] = [
            *((each.display_name or each.rule, each.count) for each in answer.rules),
            none,
        ]
        output.table(
            ["rule", "count", "share"],
            [(name, f"{decided:,}", decisions.share(decided / count if count else 0.0)) for name, decided in rows],
            numbers=["count", "share"],
            fits=True,
        )


def tell_comparison(answer: pb.SimulateResponse) -> None:
    """Who would get another variant than by the other revision."""
    comparison, count = answer.comparison, answer.decided_count
    than = f"than by revision {comparison.revision}"
    output.say("")
    if answer.HasField("trace"):
        before = next((each.from_slug or "refused" for each in comparison.movements), "refused")
        same = not comparison.moved_count
        output.say(f"by revision {comparison.revision} it would be {before}{', too' if same else ''}")
        return
    if not comparison.moved_count:
        output.say(f"none of {count:,} would get another variant {than}")
    else:
        moved = f"{comparison.moved_count:,} of {count:,} ({decisions.share(comparison.moved_share)})"
        output.say(f"{moved} would get another variant {than}")
    output.say("")
    output.table(
        ["from", "to", "count", "share"],
        [
            (
                each.from_slug or "(refused)",
                "(stays)" if each.from_variant == each.to_variant else each.to_slug or "(refused)",
                f"{each.count:,}",
                decisions.share(each.share),
            )
            for each in comparison.movements
        ],
        numbers=["count", "share"],
        fits=True,
    )


def bar(share: float) -> str:
    """A part of 1; what is not nothing shows."""
    eighths = round(min(max(share, 0.0), 1.0) * _BAR * 8)
    if share > 0:
        eighths = max(eighths, 1)
    return ("█" * (eighths // 8) + _EIGHTHS[eighths % 8]).rstrip()
