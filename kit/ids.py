"""Identifiers: typed uids made from UUIDv7, so that they sort by the time of their making.

A uid is `<type>_<26 characters>`: the 128 bits of a UUIDv7 in lower-case Crockford base32 (RFC 9562 for the bits,
https://www.crockford.com/base32.html for the alphabet). Sorting uids of one type sorts them by creation.
"""

from __future__ import annotations

import os
import re
import struct
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_CHARACTERS = bytes.maketrans(bytes(range(32)), _ALPHABET.encode())
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_UID = re.compile(r"[a-z]{2,4}_[0-7][0-9a-hjkmnp-tv-z]{25}")
_TAIL_BITS = (1 << 62) - 1


def _runs_of(groups: int) -> int:
    """The bits of runs of so many groups of five bits, where each group has sixteen bits of room."""
    return sum((1 << 5 * groups) - 1 << 16 * groups * run for run in range(32 // groups))


_BY_16, _BY_8, _BY_4, _BY_2, _BY_1 = map(_runs_of, (16, 8, 4, 2, 1))

# The system is asked for many at once: asking takes a third of the time that an id takes.
_TAILS = struct.Struct("=256Q")

_last_ms = 0
_counter = 0
_tails: list[int] = []


def uuid7() -> int:
    """A new UUIDv7 as an integer of 128 bits; strictly increasing within a process.

    Within one millisecond the 12 bits of `rand_a` count up (RFC 9562, method 1); when they overflow, the millisecond is
    borrowed from the future, which keeps the order and is repaid within microseconds.
    """
    global _last_ms, _counter
    now_ms = time.time_ns() // 1_000_000
    if now_ms > _last_ms:
        _last_ms, _counter = now_ms, 0
    else:
        _counter += 1
        if _counter > 0xFFF:
            _last_ms, _counter = _last_ms + 1, 0
    if not _tails:
        _tails.extend(_TAILS.unpack(os.urandom(_TAILS.size)))
    return _last_ms << 80 | 0x7 << 76 | _counter << 64 | 0b10 << 62 | _tails.pop() & _TAIL_BITS


def encode(value: int) -> str:
    """128 bits as 26 characters, order-preserving."""
    # The groups of five bits are drawn apart, halves first, until each has two bytes of its own.
    value = (value | value << 176) & _BY_16
    value = (value | value << 88) & _BY_8
    value = (value | value << 44) & _BY_4
    value = (value | value << 22) & _BY_2
    value = (value | value << 11) & _BY_1
    return value.to_bytes(52)[1::2].translate(_CHARACTERS).decode()


def decode(text: str) -> int:
    """The inverse of :func:`encode`.

    :raises ValueError: unless `text` is 26 characters of the alphabet and fits 128 bits
    """
    if len(text) != 26:
        raise ValueError("an encoded id has 26 characters")
    value = 0
    for character in text:
        try:
            value = value << 5 | _VALUES[character]
        except KeyError:
            raise ValueError(f"{character!r} is not in the id alphabet") from None
    if value >> 128:
        raise ValueError("the id does not fit 128 bits")
    return value


def new_uid(prefix: str) -> str:
    """A new uid such as `dep_01k…`; `prefix` is the type, without the underscore."""
    return f"{prefix}_{encode(uuid7())}"


def is_uid(text: str) -> bool:
    """Whether `text` has the shape of a uid of any type. Names of that shape are refused, so the two never collide."""
    return _UID.fullmatch(text) is not None


def time_ms_of(uid: str) -> int:
    """Unix time in milliseconds at which a uid (typed or bare) was made.

    :raises ValueError: if it is not one
    """
    return decode(uid.rpartition("_")[2]) >> 80
