"""Why a condition is refused, and where."""

from __future__ import annotations


class BadCondition(Exception):
    """A condition that cannot be used.

    :param message: a sentence that says what to change
    :param line: 1-based
    :param column: 1-based, in code points
    """

    def __init__(self, message: str, line: int = 1, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


def bad_at(text: str, offset: int, message: str) -> BadCondition:
    """A refusal at a code point of the text."""
    before = text[:offset]
    return BadCondition(message, before.count("\n") + 1, offset - before.rfind("\n"))
