"""The words of a condition, read as CEL reads them, so that limits hold before CEL sees the text."""

from __future__ import annotations

import re
from enum import Enum

from catalog.conditions.faults import bad_at
from kit.values import Value


class Kind(Enum):
    """What a token is."""

    NAME = "name"
    TEXT = "text"
    NUMBER = "number"
    SIGN = "sign"


class Token(Value):
    """One word; `offset` is its first code point's."""

    kind: Kind
    text: str
    offset: int


_SPACE = re.compile(r"(?:[ \t\r\n\f]++|//[^\n]*+)++")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*+")
_NUMBER = re.compile(r"0x[0-9A-Fa-f]++u?|(?:[0-9]++(?:\.[0-9]++)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?[uU]?")
_OPENING = re.compile(r"""[rR]?("{3}|'{3}|"|')""")
_BYTES = re.compile(r"""[bB][rR]?["']""")
# By opening quote, raw or not: what is inside up to the closing one. A raw text ends at the first quote whatever stands
# before it.
_CLOSING = {
    ('"', False): re.compile(r'(?:[^"\\\r\n]|\\[^\r\n])*+"'),
    ("'", False): re.compile(r"(?:[^'\\\r\n]|\\[^\r\n])*+'"),
    ('"', True): re.compile(r'[^"\r\n]*+"'),
    ("'", True): re.compile(r"[^'\r\n]*+'"),
    ('"""', False): re.compile(r'(?:[^"\\]|\\[\s\S]|"(?!""))*+"""'),
    ("'''", False): re.compile(r"(?:[^'\\]|\\[\s\S]|'(?!''))*+'''"),
    ('"""', True): re.compile(r'(?:[^"]|"(?!""))*+"""'),
    ("'''", True): re.compile(r"(?:[^']|'(?!''))*+'''"),
}


def tokens(text: str) -> list[Token]:
    """The words of a text, without spaces and comments; linear in its length.

    :raises BadCondition: for a text that does not end, bytes, and names in back quotes
    """
    found: list[Token] = []
    place = 0
    while place < len(text):
        if space := _SPACE.match(text, place):
            place = space.end()
            continue
        if _BYTES.match(text, place):
            raise bad_at(text, place, "conditions have no bytes; write the text without b")
        if opening := _OPENING.match(text, place):
            closing = _CLOSING[opening[1], text[place] in "rR"].match(text, opening.end())
            if closing is None:
                raise bad_at(text, place, "this text has no closing quote")
            kind, end = Kind.TEXT, closing.end()
        elif name := _NAME.match(text, place):
            kind, end = Kind.NAME, name.end()
        elif number := _NUMBER.match(text, place):
            kind, end = Kind.NUMBER, number.end()
        else:
            kind, end = Kind.SIGN, place + 1
        found.append(Token(kind, text[place:end], place))
        place = end
    return found
