"""Filters that make numbers."""

from __future__ import annotations

import math

from jinja2 import pass_context

from completions.template.runtime import Missing, Operand, RenderContext, integer_between, number

_MAX_DIGITS = 40


@pass_context
def to_int(context: RenderContext, value: Operand, default: int = 0) -> int:
    if isinstance(value, Missing):
        value.use()
        return default
    if isinstance(value, str) and len(value) > _MAX_DIGITS:
        return default
    try:
        return int(value)  # type: ignore[call-overload,no-any-return]  # TypeError is answered
    except (TypeError, ValueError, OverflowError):
        pass
    try:
        return int(float(value))  # type: ignore[arg-type]  # TypeError is answered
    except (TypeError, ValueError, OverflowError):
        return default


@pass_context
def to_float(context: RenderContext, value: Operand, default: float = 0.0) -> float:
    if isinstance(value, Missing):
        value.use()
        return default
    if isinstance(value, str) and len(value) > _MAX_DIGITS:
        return default
    try:
        return float(value)  # type: ignore[arg-type]  # TypeError is answered
    except (TypeError, ValueError, OverflowError):
        return default


@pass_context
def round_to(context: RenderContext, value: Operand, precision: int = 0, method: str = "common") -> float:
    if isinstance(value, Missing):
        value.use()
        return 0.0
    amount, digits = number(value), integer_between(precision, -20, 20)
    if method == "common":
        return round(amount, digits)
    factor = 10.0**digits
    if method not in ("ceil", "floor"):
        raise ValueError("the method must be common, ceil or floor")
    return (math.ceil if method == "ceil" else math.floor)(amount * factor) / factor


@pass_context
def absolute(context: RenderContext, value: Operand) -> Operand:
    if isinstance(value, Missing):
        value.use()
        return value
    return abs(number(value))
