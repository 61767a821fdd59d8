"""Single values that keep to the limits of a schema, and schemas put together."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final, TypeGuard

from kit.json import Json

_MAX_INTEGER: Final = 1 << 63
_MAX_COUNT: Final = 1 << 31
_LEAST: Final = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_MOST: Final = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})
_SIGNS: Final = (
    ("object", ("properties", "required", "minProperties", "additionalProperties", "patternProperties")),
    ("array", ("items", "prefixItems", "minItems", "uniqueItems")),
    ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
)


def kind_of(schema: dict[str, Json]) -> str:
    """The type of a value to make; a text where nothing says otherwise."""
    kinds = schema.get("type")
    given = kinds if isinstance(kinds, list) else [kinds]
    kind = next((each for each in given if each != "null"), "null")
    if isinstance(kind, str):
        return kind
    return next((kind for kind, keywords in _SIGNS if any(keyword in schema for keyword in keywords)), "string")


def met(one: dict[str, Json], other: dict[str, Json]) -> dict[str, Json]:
    """What says both, as far as that can be put in one schema: the first wins where it cannot."""
    whole = {**other, **one}
    for keyword in one.keys() & other.keys():
        left, right = one[keyword], other[keyword]
        if keyword in _LEAST | _MOST and _is_number(left) and _is_number(right):
            whole[keyword] = (max if keyword in _LEAST else min)(left, right)
        elif keyword == "required" and isinstance(left, list) and isinstance(right, list):
            whole[keyword] = [*left, *right]
        elif keyword == "properties" and isinstance(left, dict) and isinstance(right, dict):
            whole[keyword] = {**right, **left}
    return whole


def count(schema: dict[str, Json], keyword: str, otherwise: int) -> int:
    """A length or a number of things."""
    given = schema.get(keyword)
    return int(min(max(given, 0), _MAX_COUNT)) if _is_number(given) else otherwise


def text(schema: dict[str, Json], name: str, number: int = 0, *, longest: int = _MAX_COUNT) -> str:
    """The name, as long as it must be.

    :param number: other texts for other numbers, as far as the longest length allows
    """
    least, most = count(schema, "minLength", 0), count(schema, "maxLength", longest)
    mark = str(number + 1) if number else ""
    kept = (name or "text")[: max(0, most - len(mark))] + mark
    if len(kept) < least <= longest:
        kept = ((name or "text") * (least // len(name or "text") + 1))[: least - len(mark)] + mark
    return kept[:most]


def number(schema: dict[str, Json], index: int, *, is_integer: bool) -> int | float:
    """1, or 1.5, or what is nearest to the lower limit; others for other indices. What fits no limits at all is 1."""
    low, is_above = _limit(schema, "minimum", "exclusiveMinimum", max)
    high, is_below = _limit(schema, "maximum", "exclusiveMaximum", min)
    steps = [Fraction(1)] if is_integer else []
    given = _fraction(schema.get("multipleOf"))
    if given is not None and given > 0:
        # What is a multiple of a/b and of 1 is one of a.
        steps = [Fraction(given.numerator) if is_integer else given]

    def fits(value: Fraction) -> bool:
        return (
            (low is None or value > low or (value == low and not is_above))
            and (high is None or value < high or (value == high and not is_below))
            and (not steps or (value / steps[0]).denominator == 1)
        )

    candidates = [Fraction(1) if is_integer else Fraction(3, 2), Fraction(1), Fraction(0)]
    if steps:
        step = steps[0]
        if low is not None:
            candidates += [step * math.ceil(low / step), step * (math.floor(low / step) + 1)]
        if high is not None:
            candidates += [step * math.floor(high / step), step * (math.ceil(high / step) - 1)]
        candidates.append(step)
    else:
        step = Fraction(1)
        if low is not None and high is not None:
            candidates += [low, (low + high) / 2]
            step = (high - low) / 128 or step
        candidates += [low, low + 1] if low is not None else []
        candidates += [high, high - 1] if high is not None else []
    base = next(filter(fits, candidates), Fraction(1))
    moved = (base + step * index, base - step * index)
    value = next(filter(fits, moved), base)
    if value.denominator == 1 and abs(value) < _MAX_INTEGER:
        return int(value)
    try:
        return float(value)
    except OverflowError:
        return 1


def _limit(
    schema: dict[str, Json], inclusive: str, exclusive: str, tighter: Callable[[Fraction, Fraction], Fraction]
) -> tuple[Fraction | None, bool]:
    """The limit, and whether it is itself out of bounds."""
    soft, hard = _fraction(schema.get(inclusive)), _fraction(schema.get(exclusive))
    if schema.get(exclusive) is True:
        # As it was written before draft 6.
        return soft, True
    if soft is None or hard is None:
        return (soft, False) if hard is None else (hard, True)
    return tighter(soft, hard), tighter(soft, hard) == hard


def _fraction(value: Json) -> Fraction | None:
    """As it is written: a tenth is a tenth."""
    return Fraction(str(value)) if _is_number(value) else None


def _is_number(value: Json) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
