"""Jinja's lexer with bounds, and the cheap question whether a text is a template at all."""

from __future__ import annotations

import re
from collections.abc import Iterator

from jinja2 import TemplateSyntaxError
from jinja2 import lexer as jinja

MAX_TOKENS = 1_500
"""Tokens inside tags in one text: about 300 expressions. Parsing and compiling cost them, not the text."""
MAX_BRACKETS = 16
MAX_NAME_LENGTH = 256
"""Characters of a name, a key or an attribute. Paths of what is missing are made of them, for each element anew."""
_MAX_NUMBER_LENGTH = 32
_FREE = frozenset({jinja.TOKEN_DATA, jinja.TOKEN_COMMENT, jinja.TOKEN_WHITESPACE})

# Unknown escapes are a warning in Python today and an error tomorrow: here they are an error at once.
_STRING = re.compile(
    r"(?:[^\\]|\\(?:[\\'\"abfnrtv\n]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4}))*"
)
_OPENING = re.compile(r"\{(?:\{|#|%(?:[-+]?\s*raw\s*-?%\})?)")
_LINE_END = re.compile(r"\r\n?")
_RAW_END = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")


_LINE_BITS = 24


def place_at(line: int, column: int) -> int:
    """A line and a column, from 1, in the one number that Jinja carries from token to node to compiled code."""
    return column << _LINE_BITS | line


def line_of(place: int) -> int:
    """The line of a place."""
    return place & ((1 << _LINE_BITS) - 1)


def place_in_words(place: int) -> str:
    """`line 3, column 14`; without the column where only the line is known, and empty for nowhere."""
    line, column = line_of(place), place >> _LINE_BITS
    return f"line {line}, column {column}" if column else f"line {line}" if line else ""


class Refused(Exception):
    """A template, or a render, that ends here. The callers know the field and make an `Invalid` of it.

    :param place: as :func:`place_at` makes it, or a mere line; 0 for nowhere
    """

    def __init__(self, reason: str, message: str, place: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        # Some of Jinja's own nodes are nowhere.
        self.place = place or 0


def not_allowed(place: int, message: str) -> Refused:
    """What is valid Jinja, and not for a message."""
    return Refused("TEMPLATE_NOT_ALLOWED", message, place)


def check_length(name: str, place: int) -> None:
    """:raises Refused: for a name that no variable needs"""
    if len(name) > MAX_NAME_LENGTH:
        raise not_allowed(place, f"a name must be at most {MAX_NAME_LENGTH} characters long")


def has_syntax(text: str) -> bool:
    """Whether rendering `text` could yield anything but `text`."""
    return "{{" in text or "{%" in text or "{#" in text


def is_templated(text: str) -> bool:
    """Whether `text` holds an expression or a statement, as Jinja's lexer would see it.

    Comments and raw blocks, and what stands in them, do not count; nor do single braces, closing braces and JSON. A tag
    that is begun counts even if it is broken: a slip in a template is to be reported, not to be sent to a model.
    Linear in the text, never raises.
    """
    position = 0
    # A text with more comments and raw blocks than any template may have is for `check` to refuse.
    for _ in range(MAX_TOKENS):
        opening = _OPENING.search(text, position)
        if opening is None:
            return False
        if opening[0] == "{#":
            end = text.find("#}", opening.end())
            if end < 0:
                return False
            position = end + 2
        elif opening[0].endswith("}"):
            closing = _RAW_END.search(text, opening.end())
            if closing is None:
                # To Jinja, nothing follows a raw block that is begun by the last characters.
                return opening.end() < len(text)
            position = closing.end()
        else:
            return True
    return True


def literal(text: str) -> str:
    """A template that renders to exactly `text`; `text` itself when it has no template syntax."""
    if not has_syntax(text):
        return text
    # A raw block stays readable, but cannot hold its own end, and Jinja makes "\n" of "\r\n" in it.
    if "endraw" not in text and "\r" not in text:
        return "{% raw %}" + text + "{% endraw %}"
    quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("\r", "\\r")
    return "{{ '" + quoted + "' }}"


class BoundedLexer(jinja.Lexer):
    """Jinja's lexer, ending with :class:`Refused` where a template is too long or too deep to be parsed quickly.

    Bounding here, while the parser pulls, keeps the parser from ever seeing what it would choke on. These tokens have
    a place where Jinja's have a line.
    """

    def tokeniter(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> Iterator[tuple[int, str, str]]:
        count = open_brackets = 0
        for place, kind, text in self._placed(source, name, filename, state):
            if kind not in _FREE:
                count += 1
                if count > MAX_TOKENS:
                    raise Refused("TEMPLATE_TOO_LARGE", f"has more than {MAX_TOKENS} tokens inside its tags", place)
            if kind == jinja.TOKEN_OPERATOR:
                if text in "([{":
                    open_brackets += 1
                elif text in ")]}":
                    open_brackets -= 1
                if open_brackets > MAX_BRACKETS:
                    raise Refused("TEMPLATE_TOO_DEEP", f"nests more than {MAX_BRACKETS} brackets", place)
            elif kind in (jinja.TOKEN_INTEGER, jinja.TOKEN_FLOAT):
                if len(text) > _MAX_NUMBER_LENGTH:
                    raise Refused("TEMPLATE_SYNTAX", "has a number that is too long", place)
            elif kind == jinja.TOKEN_STRING and "\\" in text and not _STRING.fullmatch(text):
                raise Refused("TEMPLATE_SYNTAX", "has a string with an unknown escape", place)
            yield place, kind, text

    def _placed(
        self, source: str, name: str | None, filename: str | None, state: str | None
    ) -> Iterator[tuple[int, str, str]]:
        """Jinja's tokens, each with its place for its line. Linear in the text."""
        source = _LINE_END.sub("\n", source)
        end = line_start = 0
        try:
            for line, kind, text in super().tokeniter(source, name, filename, state):
                # Only white space is left out between two tokens.
                begin = source.find(text, end)
                line_start = max(line_start, source.rfind("\n", end, begin) + 1)
                yield place_at(line, begin - line_start + 1), kind, text
                end = begin + len(text)
                line_start = max(line_start, source.rfind("\n", begin, end) + 1)
        except TemplateSyntaxError as error:
            while source[end : end + 1].isspace():
                line_start = end + 1 if source[end] == "\n" else line_start
                end += 1
            if line_of(error.lineno) == error.lineno == source.count("\n", 0, end) + 1:
                error.lineno = place_at(error.lineno, end - line_start + 1)
            raise
