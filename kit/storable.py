"""What Postgres can hold of what callers write: text without the NUL character. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from kit import json
from kit.errors import Invalid, Violation
from kit.json import Json


def check_texts(texts: Iterable[tuple[str, str]]) -> None:
    """
    :param texts: each with the path of its field
    :raises Invalid: `TEXT_NOT_STORABLE`, for the first that cannot be stored
    """
    for field, text in texts:
        if "\0" in text:
            raise _not_storable(field)


def check_object(text: str, *, field: str, max_bytes: int) -> None:
    """The same for a JSON object as text; an empty text is none, and in order.

    :raises Invalid: `JSON_…` as `kit.json` says; `TEXT_NOT_STORABLE`
    """
    if not text:
        return
    parsed = json.parse_object(text, field=field, max_bytes=max_bytes)
    # In JSON it can only be written so: most texts are not looked through.
    if "\\u0000" in text and _holds_nul(parsed):
        raise _not_storable(field)


def _holds_nul(value: Json) -> bool:
    if isinstance(value, dict):
        return any("\0" in name or _holds_nul(member) for name, member in value.items())
    if isinstance(value, list):
        return any(_holds_nul(element) for element in value)
    return isinstance(value, str) and "\0" in value


def _not_storable(field: str) -> Invalid:
    violation = Violation(field, "must not contain the NUL character")
    return Invalid(f"{field} {violation.message}", reason="TEXT_NOT_STORABLE", violations=(violation,))
