"""How a body that cannot be passed on is refused: always with the path of what is wrong."""

from __future__ import annotations

from kit.errors import Invalid, Violation
from kit.json import Json
from services.gateway import domain

_NAMES = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array", dict: "an object"}


def place(parent: str, name: str) -> str:
    """The path of a member that the caller named."""
    return f"{parent}.{domain.shown(name)}"


def wrong_type(path: str, wanted: str, value: Json) -> Invalid:
    """`path` holds something else than what is wanted, such as `a string`."""
    found = _NAMES.get(type(value), "null")
    return _invalid(path, f"must be {wanted}, not {found}", reason="INVALID_TYPE")


def wrong_value(path: str, message: str) -> Invalid:
    """`path` holds a value that means nothing here."""
    return _invalid(path, message, reason="UNSUPPORTED_VALUE")


def missing(path: str, message: str) -> Invalid:
    """`path` must be there."""
    return _invalid(path, message, reason="MISSING_REQUIRED_PARAMETER")


def unsupported(path: str, message: str) -> Invalid:
    """`path` is known, but nothing that this endpoint can do."""
    return _invalid(path, message, reason="UNSUPPORTED_PARAMETER")


def unknown(path: str) -> Invalid:
    """`path` is no parameter at all; what the caller wrote of it has gone through `place` or `domain.shown`."""
    return _invalid(path, "is not a parameter of this endpoint; check its spelling", reason="UNKNOWN_PARAMETER")


def malformed(path: str, message: str) -> Invalid:
    """`path` is no JSON."""
    return _invalid(path, message, reason="JSON_MALFORMED")


def text(path: str, value: Json) -> str:
    """The value, which must be a string."""
    if not isinstance(value, str):
        raise wrong_type(path, "a string", value)
    return value


def _invalid(path: str, message: str, *, reason: str) -> Invalid:
    return Invalid(f"{path} {message}", reason=reason, violations=(Violation(path, message),))
