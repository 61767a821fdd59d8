"""How a variant came to be chosen, in people's words."""

from __future__ import annotations

from typing import Final

from rich.cells import cell_len, set_cell_size

from turnout.router.v1 import decision_pb2 as pb

_KEYS: Final = {
    pb.KEY_KIND_ROUTING_KEY: "the routing key",
    pb.KEY_KIND_IDENTITY: "the identity",
    pb.KEY_KIND_THREAD: "the thread",
    pb.KEY_KIND_USER: "the user",
    pb.KEY_KIND_REQUEST: "nothing but the request's id",
}

_NAME_CELLS: Final = 32
"""Of a rule, where one line has to do."""


def by(decision: pb.Decision) -> str:
    """What decided, in a cell: the rule's name, `default` for the variants' weights, `baseline` outside coverage.

    `–` if nothing did.
    """
    if decision.evaluation == pb.EVALUATION_UNSPECIFIED:
        return "–"
    if decision.outside_coverage:
        return "baseline"
    if decision.evaluation != pb.EVALUATION_MATCHED:
        return "default"
    name = decision.rule_name or decision.rule
    return name if cell_len(name) <= _NAME_CELLS else f"{set_cell_size(name, _NAME_CELLS - 1).rstrip()}…"


def evaluation(decision: pb.Decision) -> str:
    """How it came about, in the contracts' word, and by which rule."""
    if decision.evaluation == pb.EVALUATION_UNSPECIFIED:
        return "–"
    word = pb.Evaluation.Name(decision.evaluation).removeprefix("EVALUATION_")
    rule = f" by rule {decision.rule_name or decision.rule} ({decision.rule})" if decision.rule else ""
    return f"{word}{rule}{'; outside coverage: the baseline' if decision.outside_coverage else ''}"


def why(decision: pb.Decision) -> str:
    """Which rule decided, or none; and whether the unit is outside coverage."""
    if decision.evaluation == pb.EVALUATION_MATCHED:
        told = f"rule {decision.rule_name or decision.rule} matched"
    else:
        told = "no rule matched: by the variants' weights"
    return f"outside coverage: the baseline, though {told}" if decision.outside_coverage else told


def key(decision: pb.Decision) -> str:
    """What the choice sticks to."""
    told = _KEYS.get(decision.key_kind, str(decision.key_kind))
    if decision.key_kind == pb.KEY_KIND_REQUEST:
        return f"{told}: the next call may get another variant; --key makes it stick"
    return told


def share(of_all: float) -> str:
    """A part of 1 as people write it: `12.3 %`. More than nothing never reads as nothing, nor less than all as all."""
    percent = of_all * 100
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    return f"{percent:.1f}".removesuffix(".0") + " %"
