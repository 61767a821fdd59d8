"""How one call came to its decision, as a tree."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len
from rich.text import Text
from rich.tree import Tree

from cli import decisions, output
from turnout.router.v1 import routing_service_pb2 as pb

_MARKS: Final = {
    pb.RULE_OUTCOME_TRUE: ("✓", "green", ""),
    pb.RULE_OUTCOME_FALSE: ("✗", "red", ""),
    pb.RULE_OUTCOME_MISSING: ("?", "yellow", ""),
    pb.RULE_OUTCOME_ERROR: ("?", "yellow", ""),
    pb.RULE_OUTCOME_INACTIVE: ("–", "dim", "switched off"),
    pb.RULE_OUTCOME_NOT_REACHED: ("·", "dim", "not reached"),
}
"""By outcome: what stands before the rule, its style, and what is said of it."""
_UNKNOWN: Final = ("?", "", "")
_BREAK: Final = re.compile(r"\s*\n\s*")


def drawn(trace: pb.Trace, *, title: str) -> Tree:
    """The whole way: rules in order with what they saw, the draw for coverage, the variants that might have won, and
    what came of it.

    :param title: what was decided, by what
    """
    root = Tree(_text(title, "bold"))
    rules = root.add(_text("rules, asked in order" if trace.rules else "no rules", "" if trace.rules else "dim"))
    for rule in trace.rules:
        _rule(rules, rule)
    root.add(_coverage(trace))
    matched = next((rule for rule in trace.rules if rule.outcome == pb.RULE_OUTCOME_TRUE), None)
    of = f"the split of {matched.display_name or matched.rule}" if matched else "all variants, by their own weights"
    candidates = root.add(_text(of))
    winner = "" if trace.decision.outside_coverage else trace.decision.variant
    for line in _candidates(trace.candidates, winner):
        candidates.add(line)
    root.add(_end(trace))
    return root


def _rule(under: Tree, rule: pb.RuleTrace) -> None:
    mark, style, told = _MARKS.get(rule.outcome, _UNKNOWN)
    is_asked = style != "dim"
    quiet = "" if is_asked else "dim"
    line = _line(
        (f"{mark} ", style),
        (rule.display_name or rule.rule, quiet or "bold"),
        (f"  {_BREAK.sub(' ', rule.condition)}", quiet),
        (f"  ({told})" if told else "", quiet),
    )
    branch = under.add(line)
    if not is_asked:
        return
    for seen in rule.values:
        branch.add(_seen(seen))
    if rule.message:
        branch.add(_text(rule.message, "yellow"))


def _seen(seen: pb.SeenValue) -> Text:
    if seen.value_json:
        return _text(f"{seen.field} = {seen.value_json}")
    problem = "does not fit its kind" if seen.unfit else "is missing"
    return _text(f"{seen.field} {problem}", "yellow")


def _coverage(trace: pb.Trace) -> Text:
    if trace.coverage >= 1:
        return _text("coverage 100 %: everybody", "dim")
    is_inside = trace.coverage_draw < trace.coverage
    sign, place = ("<", "inside") if is_inside else ("≥", "outside, so the baseline is picked")
    told = (
        f"coverage {decisions.share(trace.coverage)}: drew {trace.coverage_draw:.6f} {sign} {trace.coverage:g}, {place}"
    )
    return _text(told, "" if is_inside else "yellow")


def _candidates(candidates: Sequence[pb.Candidate], winner: str) -> Iterator[Text]:
    """A line each, with numbers under each other."""
    rows = [
        (
            each.variant_slug,
            f"weight {each.weight:g}",
            *(
                (
                    f"draw {each.draw:.6f}",
                    f"score {each.score:.6g}",
                    f"propensity {decisions.share(each.propensity)}",
                )
                if each.active and each.weight > 0
                else (_idle(each),)
            ),
        )
        for each in candidates
    ]
    widths = [max((cell_len(row[at]) for row in rows if at < len(row) - 1), default=0) for at in range(5)]
    for each, row in zip(candidates, rows, strict=True):
        last = len(row) - 1
        cells = [cell + " " * (widths[at] - cell_len(cell) if at < last else 0) for at, cell in enumerate(row)]
        is_winner = bool(winner) and each.variant == winner
        style = "bold green" if is_winner else "dim" if last < 4 else ""
        yield _text(f"{'★' if is_winner else ' '} {'  '.join(cells)}", style)


def _idle(candidate: pb.Candidate) -> str:
    """Why it takes no part; outside coverage it may serve nevertheless."""
    why = "it has no weight" if candidate.active else "it is not active"
    also = f"; propensity {decisions.share(candidate.propensity)}" if candidate.propensity else ""
    return f"takes no part: {why}{also}"


def _end(trace: pb.Trace) -> Text:
    if not trace.HasField("decision"):
        return _line(("refused: ", "bold red"), (trace.refusal or "no variant is active", ""))
    decision = trace.decision
    told = (
        f": {decisions.why(decision)}; {decisions.share(decision.propensity)} of random keys with this context get it; "
        f"hashed: {trace.key}"
    )
    return _line((f"★ {decision.variant_slug}", "bold green"), (told, ""))


def _text(text: str, style: str = "") -> Text:
    return _line((text, style))


def _line(*parts: tuple[str, str]) -> Text:
    """Texts, of which others wrote some, each with its style."""
    return Text.assemble(*((output.visible(text, in_line=True), style) for text, style in parts))
