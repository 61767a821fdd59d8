"""One text for equal JSON values, so that a hash of it names the value."""

from __future__ import annotations

import math
from decimal import Decimal

import orjson

from kit.errors import Invalid
from kit.json import Json

_MIN_INTEGER, _MAX_INTEGER = -(1 << 63), (1 << 64) - 1
_MAX_DEPTH = 128
_PLAIN_KINDS = frozenset({str, int, bool, float, type(None), dict, list})
_MAX_PLAIN = 100_000
"""Values on one level: what contains itself has endlessly many."""


def canonical(value: Json) -> bytes:
    """RFC 8785 (JSON Canonicalization Scheme) with exact integers: equal values, and only they, have equal texts.

    * UTF-8, no whitespace. Members of objects in ascending order of their names' UTF-16 code units.
    * Strings escape only `"`, `\\` and the controls below U+0020: `\\b \\t \\n \\f \\r`, the others as `\\u00xx` in
      lower case. Text is not normalised.
    * A number with an integral value is written as that integer, in full and without exponent, whatever its spelling:
      `1`, `1.0` and `1e0` are `1`, `-0.0` is `0`, and the double 1e21 is `1000000000000000000000`. (This is where RFC
      8785 differs: it makes every number a double and writes `1e+21`. Here 9007199254740993 stays what it is.)
      In a document's text, a number without fraction and exponent from -2^63 to 2^64 - 1 is exact; any other is the
      nearest IEEE 754 double.
    * Any other number is a double, written as ECMAScript's `Number::toString` does: the fewest digits that read back as
      the same double, as `0.000001` down to 1e-6 and as `1.5e-7` below.
    * `true`, `false` and `null` are themselves; nothing is dropped.

    :raises Invalid: `JSON_NOT_CANONICAL` for NaN, infinities, integers beyond 64 bits, lone surrogates, names that are
        no strings, values that are no JSON, and more than 128 levels
    """
    pieces: list[bytes] = []
    try:
        # Thirty times as fast, and right for nearly every document. What it refuses is refused in words below.
        if _is_plain(value):
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        pass
    try:
        _write(value, pieces, _MAX_DEPTH)
    except orjson.JSONEncodeError:
        raise _refused("text with lone surrogates") from None
    return b"".join(pieces)


def _is_plain(value: Json) -> bool:
    """Whether orjson's order of names and its numbers are ours; False where that is not certain.

    :raises TypeError: for names that are no text
    """
    level: list[Json] = [value]
    for _ in range(_MAX_DEPTH + 1):
        kinds = set(map(type, level))
        if not kinds <= _PLAIN_KINDS or len(level) > _MAX_PLAIN:
            return False
        if float in kinds and not all(_is_plain_number(one) for one in level if isinstance(one, float)):
            return False
        # Of names in ASCII, the order of UTF-8 and that of UTF-16 are one.
        if dict in kinds and not all("".join(one).isascii() for one in level if isinstance(one, dict)):
            return False
        if dict not in kinds and list not in kinds:
            return True
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return False


def _is_plain_number(value: float) -> bool:
    """Whether it has a fraction, and is written without exponent everywhere."""
    return 1e-3 < abs(value) < 1e15 and not value.is_integer()


def _write(value: object, pieces: list[bytes], depth: int) -> None:
    if isinstance(value, str):
        pieces.append(orjson.dumps(str(value)))
    elif value is None:
        pieces.append(b"null")
    # Before int: True is an int to Python, and must not become 1.
    elif isinstance(value, bool):
        pieces.append(b"true" if value else b"false")
    elif isinstance(value, int):
        if not _MIN_INTEGER <= value <= _MAX_INTEGER:
            raise _refused("an integer beyond 64 bits")
        pieces.append(b"%d" % value)
    elif isinstance(value, float):
        pieces.append(_number(value).encode())
    elif depth == 0:
        raise _refused(f"more than {_MAX_DEPTH} levels")
    elif isinstance(value, dict):
        separator = b"{"
        for name in sorted(value, key=_utf16):
            pieces.append(separator)
            pieces.append(orjson.dumps(str(name)))
            pieces.append(b":")
            _write(value[name], pieces, depth - 1)
            separator = b","
        pieces.append(b"}" if value else b"{}")
    elif isinstance(value, (list, tuple)):
        separator = b"["
        for element in value:
            pieces.append(separator)
            _write(element, pieces, depth - 1)
            separator = b","
        pieces.append(b"]" if value else b"[]")
    else:
        raise _refused(f"a value of type {type(value).__name__}")


def _utf16(name: object) -> bytes:
    if not isinstance(name, str):
        raise _refused("a member whose name is no string")
    return name.encode("utf-16-be", "surrogatepass")


def _number(value: float) -> str:
    if not math.isfinite(value):
        raise _refused(str(value))
    if value.is_integer():
        return str(int(value))
    text = repr(value)
    mantissa, _, exponent = text.partition("e")
    if not exponent:
        return text
    # A fraction's exponent is negative. Python turns to exponents below 1e-4 and pads them, ECMAScript does below 1e-6.
    power = int(exponent)
    return f"{mantissa}e{power}" if power < -6 else format(Decimal(text), "f")


def _refused(what: str) -> Invalid:
    return Invalid(f"the document holds {what}, which has no canonical form", reason="JSON_NOT_CANONICAL")
