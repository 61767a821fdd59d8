"""Jinja's lexer with bounds, and the cheap question whether a text is a template at all."""

from __future__ import annotations

import re
from collections.abc import Iterator

from jinja2 import lexer as jinja

MAX_TOKENS = 1_500
"""Tokens inside tags in one text: about 300 expressions. Parsing and compiling cost them, not the text."""
MAX_BRACKETS = 16
_MAX_NUMBER_LENGTH = 32
_FREE = frozenset({jinja.TOKEN_DATA, jinja.TOKEN_COMMENT, jinja.TOKEN_WHITESPACE})

# Unknown escapes are a warning in Python today and an error tomorrow: here they are an error at once.
_STRING = re.compile(
    r"(?:[^\\]|\\(?:[\\'\"abfnrtv\n]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U00(?:0[0-9a-fA-F]|10)[0-9a-fA-F]{4}))*"
)
_OPENING = re.compile(r"\{(?:\{|#|%(?:[-+]?\s*raw\s*-?%\})?)")
_RAW_END = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")


class Refused(Exception):
    """A template, or a render, that ends here. The callers know the field and make an `Invalid` of it."""

    def __init__(self, reason: str, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.line = line


def not_allowed(line: int, message: str) -> Refused:
    """What is valid Jinja, and not for a message."""
    return Refused("TEMPLATE_NOT_ALLOWED", message, line)


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

    Bounding here, while the parser pulls, keeps the parser from ever seeing what it would choke on.
    """

    def tokeniter(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> Iterator[tuple[int, str, str]]:
        count = open_brackets = 0
        for token in super().tokeniter(source, name, filename, state):
            line, kind, text = token
            if kind not in _FREE:
                count += 1
                if count > MAX_TOKENS:
                    raise Refused("TEMPLATE_TOO_LARGE", f"has more than {MAX_TOKENS} tokens inside its tags", line)
            if kind == jinja.TOKEN_OPERATOR:
                if text in "([{":
                    open_brackets += 1
                elif text in ")]}":
                    open_brackets -= 1
                if open_brackets > MAX_BRACKETS:
                    raise Refused("TEMPLATE_TOO_DEEP", f"nests more than {MAX_BRACKETS} brackets", line)
            elif kind in (jinja.TOKEN_INTEGER, jinja.TOKEN_FLOAT):
                if len(text) > _MAX_NUMBER_LENGTH:
                    raise Refused("TEMPLATE_SYNTAX", "has a number that is too long", line)
            elif kind == jinja.TOKEN_STRING and "\\" in text and not _STRING.fullmatch(text):
                raise Refused("TEMPLATE_SYNTAX", "has a string with an unknown escape", line)
            yield token
