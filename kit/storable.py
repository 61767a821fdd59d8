"""What Postgres can hold of what callers write: text without the NUL character. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol

from kit import json
from kit.errors import Invalid, Violation
from kit.json import Json

_REASON: Final = "TEXT_NOT_STORABLE"
_WHY: Final = "must not contain the NUL character"


class _Message(Protocol):
    """What of a protobuf message is needed: nothing that imports this depends on protobuf."""

    def ListFields(self) -> Iterable[tuple[Any, Any]]:  # noqa: N802  # protobuf's own name
        """Descriptors and values of the fields that have one."""
        ...


def check_texts(texts: Iterable[tuple[str, str]]) -> None:
    """
    :param texts: each with the path of its field
    :raises Invalid: `TEXT_NOT_STORABLE`, for the first that cannot be stored
    """
    for field, text in texts:
        if "\0" in text:
            raise _not_storable(field)


def check_message(message: _Message) -> None:
    """The same for every text of a message, wherever in it.

    :raises Invalid: `TEXT_NOT_STORABLE`, with every such field
    """
    wrong = [Violation(path, _WHY) for path in _paths_with_nul(message, "")]
    if wrong:
        raise Invalid(f"{wrong[0].field} {wrong[0].message}", reason=_REASON, violations=wrong)


def _paths_with_nul(message: _Message, prefix: str) -> Iterator[str]:
    for descriptor, value in message.ListFields():
        path = f"{prefix}{descriptor.name}"
        values = [(path, value)]
        if descriptor.is_repeated:
            values = [(f"{path}[{index}]", each) for index, each in enumerate(value)]
        for where, each in values:
            if isinstance(each, str):
                if "\0" in each:
                    yield where
            elif descriptor.message_type is not None:
                yield from _paths_with_nul(each, f"{where}.")


def check_object(text: str, *, field: str, max_bytes: int) -> None:
    """The same for a JSON object as text; an empty text is none, and in order.

    :raises Invalid: `JSON_…` as `kit.json` says; `TEXT_NOT_STORABLE`
    """
    read_object(text, field=field, max_bytes=max_bytes)


def read_object(text: str, *, field: str, max_bytes: int, max_depth: int = json.MAX_DEPTH) -> dict[str, Json]:
    """As :func:`check_object`, and what the text holds; nothing if it is empty."""
    if not text:
        return {}
    parsed = json.parse_object(text, field=field, max_bytes=max_bytes, max_depth=max_depth)
    # In JSON it can only be written so: most texts are not looked through.
    if "\\u0000" in text and _holds_nul(parsed):
        raise _not_storable(field)
    return parsed


def _holds_nul(value: Json) -> bool:
    if isinstance(value, dict):
        return any("\0" in name or _holds_nul(member) for name, member in value.items())
    if isinstance(value, list):
        return any(_holds_nul(element) for element in value)
    return isinstance(value, str) and "\0" in value


def _not_storable(field: str) -> Invalid:
    return Invalid(f"{field} {_WHY}", reason=_REASON, violations=(Violation(field, _WHY),))
