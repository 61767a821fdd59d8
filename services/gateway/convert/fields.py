"""The executor's names for what it refuses, in the words of those who call this endpoint. Pure."""

from __future__ import annotations

import re
from typing import Final

from kit.errors import AppError, Violation

_NAMES: Final = {
    "deployment": "model",
    "variables_json": "input",
    "variables": "input",
    "metadata_json": "metadata",
}
"""By the first part of a path."""
_NAMES_IN_MESSAGES: Final = {
    "parts": "content",
    "reasoning": "reasoning_content",
    "image": "image_url",
    "tool": "function.name",
    "arguments_json": "function.arguments",
}
"""By any part of a path below `messages`."""
_HEAD: Final = re.compile(r"[a-z_]+")
_PART: Final = re.compile(r"(?<=\.)[a-z_]+")


def in_callers_words(error: AppError) -> AppError:
    """The same error with its paths, and the sentence that begins with one, as a caller wrote them.

    :param error: of the executor
    """
    if not error.violations:
        return error
    first = error.violations[0].field
    message = error.message
    if first and message.startswith(first):
        message = param_of(first) + message[len(first) :]
    return type(error)(
        message,
        reason=error.reason,
        violations=[Violation(param_of(each.field), each.message) for each in error.violations],
        attempts=error.attempts,
        retry_after_seconds=error.retry_after_seconds,
        **error.metadata,
    )


def param_of(field: str) -> str:
    """A path of the executor's contract as a path in the body: `run.messages[0].parts` is `messages[0].content`."""
    path = field.removeprefix("run.")
    head = _HEAD.match(path)
    if head is None:
        return path
    if head[0] == "messages":
        return _PART.sub(lambda part: _NAMES_IN_MESSAGES.get(part[0], part[0]), path)
    return _NAMES.get(head[0], head[0]) + path[head.end() :]
