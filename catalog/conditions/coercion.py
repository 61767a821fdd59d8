"""What a call's context holds for each declared field.

A value either becomes one of the field's kind or does not: coercion never fails. What it gives, it leaves as it is when
given it again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import TypeAlias

from catalog.conditions.fields import FieldKind
from kit import storable
from kit.json import Json

MAX_CONTEXT_BYTES = 16 << 10
MAX_CONTEXT_DEPTH = 16
MAX_LIST_ELEMENTS = 256
"""A longer list is not bound: what a condition costs grows with it."""

Scalar: TypeAlias = "str | float | int | bool | datetime"
Coerced: TypeAlias = "Scalar | list[Scalar]"

_EXACT = 1 << 53
"""Whole numbers up to here are doubles without loss."""
_MAX_INT, _MIN_INT = (1 << 63) - 1, -(1 << 63)

_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_DATE = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2})))?"
)
_MAX_NUMERAL = 64
"""Characters of a number given as text; reading one costs the square of its length."""


def read_context(text: str, *, field: str = "context_json") -> dict[str, Json]:
    """A call's context; the empty text is the empty context.

    :param field: path of the field in the request, for the violation
    :raises Invalid: `JSON_TOO_LARGE` over 16 KiB, `JSON_TOO_DEEP` over 16 levels, `JSON_MALFORMED`, `JSON_NOT_OBJECT`;
        `TEXT_NOT_STORABLE`, since it is kept with the log
    """
    return storable.read_object(text, field=field, max_bytes=MAX_CONTEXT_BYTES, max_depth=MAX_CONTEXT_DEPTH)


def coerce(kind: FieldKind, given: object) -> Coerced | None:
    """The value as one of the kind, or None if it cannot be.

    A list of one element stands for the element, and a scalar for the list of it. Numbers and booleans may be text;
    text may be a number (`1` and `1.0` are `"1"`, others in their shortest form) or a boolean. A date is RFC 3339 text
    or a day, which is its midnight in UTC. A list holds at most 256 scalars: text, numbers, booleans.
    """
    if kind is FieldKind.LIST:
        return _list(given)
    if isinstance(given, list):
        if len(given) != 1:
            return None
        given = given[0]
    return _SCALARS[kind](given)


def to_json(coerced: Coerced) -> Json:
    """What was coerced, for people: dates are RFC 3339 text in UTC."""
    if isinstance(coerced, list):
        return [to_json(element) for element in coerced]
    if isinstance(coerced, datetime):
        return coerced.isoformat().replace("+00:00", "Z")
    return coerced


def _string(given: object) -> str | None:
    if isinstance(given, str):
        return given if given.isascii() or _is_unicode(given) else None
    if isinstance(given, bool):
        return "true" if given else "false"
    number = _finite(given)
    if number is None:
        return None
    if isinstance(number, int):
        return str(number)
    # As people write a count, whether the caller's JSON library said 1 or 1.0.
    return str(int(number)) if number.is_integer() and abs(number) < 2.0**63 else repr(number)


def _number(given: object) -> float | int | None:
    if isinstance(given, str):
        if len(given) > _MAX_NUMERAL or not _NUMBER.fullmatch(given):
            return None
        given = float(given) if "." in given or "e" in given or "E" in given else int(given)
    number = _finite(given)
    # Doubles, so that 7 / 2 does not depend on whether somebody sent 7 or 7.0; whole numbers that a double cannot tell
    # apart, such as ids, stay whole.
    return number if number is None or (isinstance(number, int) and abs(number) > _EXACT) else float(number)


def _finite(given: object) -> float | int | None:
    """The number that something is: a whole one if it fits 64 bits, and None if it is none or not finite."""
    if isinstance(given, bool):
        return None
    if isinstance(given, int):
        if _MIN_INT <= given <= _MAX_INT:
            return given
        try:
            return float(given)
        except OverflowError:
            return None
    if isinstance(given, float) and isfinite(given):
        return given
    return None


def _boolean(given: object) -> bool | None:
    if isinstance(given, bool):
        return given
    if isinstance(given, str):
        return True if given == "true" else False if given == "false" else None
    return None


def _date(given: object) -> datetime | None:
    if isinstance(given, datetime):
        return given
    found = _DATE.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        return None
    day, clock, fraction, sign, hours, minutes = found.groups()
    try:
        instant = datetime.fromisoformat(f"{day}T{clock or '00:00:00'}+00:00")
        if fraction:
            instant = instant.replace(microsecond=int(fraction.ljust(6, "0")[:6]))
        if sign:
            if int(hours) > 23 or int(minutes) > 59:
                return None
            offset = timedelta(hours=int(hours), minutes=int(minutes))
            instant = instant - offset if sign == "+" else instant + offset
        instant = instant.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    # The first moment and the last second are infinity to CEL.
    return instant if _FIRST < instant < _LAST else None


def _list(given: object) -> Coerced | None:
    if not isinstance(given, list):
        given = [given]
    if len(given) > MAX_LIST_ELEMENTS:
        return None
    coerced: list[Scalar] = []
    for element in given:
        # In this order: a bool is an int, and text that looks like a number stays text.
        found = _boolean(element) if isinstance(element, bool) else _element(element)
        if found is None:
            return None
        coerced.append(found)
    return coerced


def _element(element: object) -> str | float | int | None:
    return _string(element) if isinstance(element, str) else _number(element)


def _is_unicode(text: str) -> bool:
    """Half of a surrogate pair is no text: nothing could compare or store it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_SCALARS: dict[FieldKind, Callable[[object], Scalar | None]] = {
    FieldKind.STRING: _string,
    FieldKind.NUMBER: _number,
    FieldKind.BOOLEAN: _boolean,
    FieldKind.DATE: _date,
}
