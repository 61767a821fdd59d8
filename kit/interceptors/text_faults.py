"""Where in the bytes of a message a text is none: parsers only say that they cannot read it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor

_MAX_DEPTH: Final = 100
"""As deep as parsers go."""
_MAX_FIELDS: Final = 5_000
"""That are looked at, in some 10 ms: whoever sends such bytes may be anybody."""
_FIXED: Final = {1: 8, 5: 4}
"""Bytes of a value, by wire type."""
_VARINT: Final = 0
_LENGTH_DELIMITED: Final = 2


def path_of_bad_text(data: bytes, descriptor: Any) -> str:
    """The path of the first text that is not UTF-8, such as `messages[2].content`; empty if there is none among the
    first fields, or if the bytes are no message at all.

    Source: https://protobuf.dev/programming-guides/encoding/
    """
    try:
        return _search(data, descriptor, "", 0, iter(range(_MAX_FIELDS)))
    except IndexError:
        # It ends in the middle: that, and not a text, is what is wrong with it.
        return ""


def _search(data: bytes, descriptor: Any, path: str, depth: int, left: Iterator[int]) -> str:
    at, seen = 0, Counter[int]()
    while at < len(data) and next(left, None) is not None:
        key, at = _varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            _, at = _varint(data, at)
        elif wire_type in _FIXED:
            at += _FIXED[wire_type]
        elif wire_type == _LENGTH_DELIMITED:
            size, at = _varint(data, at)
            if size > len(data) - at:
                raise IndexError
            field = descriptor.fields_by_number.get(number)
            if field is not None:
                place = f"{path}{field.name}" + (f"[{seen[number]}]" if field.is_repeated else "")
                seen[number] += 1
                if found := _look(data[at : at + size], field, place, depth, left):
                    return found
            at += size
        else:
            # Groups are in no contract of ours.
            return ""
    return ""


def _look(value: bytes, field: FieldDescriptor, place: str, depth: int, left: Iterator[int]) -> str:
    if field.type == FieldDescriptor.TYPE_STRING:
        try:
            value.decode()
        except UnicodeDecodeError:
            return place
    elif field.type == FieldDescriptor.TYPE_MESSAGE and depth < _MAX_DEPTH:
        return _search(value, field.message_type, f"{place}.", depth + 1, left)
    return ""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number, and where the next thing begins."""
    value = shift = 0
    while shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise IndexError
