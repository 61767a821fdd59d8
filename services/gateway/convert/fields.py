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
    "context_json": "context",
    "provider": "model",
    "max_output_tokens": "max_completion_tokens",
    "reasoning_budget_tokens": "reasoning.budget",
    "tools_json": "tools",
    "tool_choice_json": "tool_choice",
    "response_format_json": "response_format",
    "extra_json": "body",
    "idempotency_key": "Idempotency-Key",
}
"""By the first part of a path."""
_NAMES_IN_MESSAGES: Final = {
    "parts": "content",
    "reasoning": "reasoning_content",
    "image": "image_url",
    "tool": "function.name",
    "arguments_json": "function.arguments",
    "extra_content_json": "extra_content",
}
"""By any part of a path below `messages`."""
_HEAD: Final = re.compile(r"[a-z_]+")
_PART: Final = re.compile(r"(?<=\.)[a-z_]+")
_ABOVE: Final = re.compile(r"(?:run\.)?(?:overrides\.|direct\.)?(?:parameters\.)?(?:extra\.)?")
"""What stands in the body itself, and deeper in the executor's contract."""
_OWN_MESSAGE: Final = re.compile(r"(?:run\.)?messages\[(\d+)\]")


def in_callers_words(error: AppError, *, skipped: int = 0) -> AppError:
    """The same error with its paths, and the sentence that begins with one, as a caller wrote them.

    :param error: of the executor
    :param skipped: how many of the body's messages stand elsewhere in the call, before its `messages`
    """
    if not error.violations:
        return error
    first = error.violations[0].field
    message = error.message
    if first and message.startswith(first):
        message = param_of(first, skipped=skipped) + message[len(first) :]
    return type(error)(
        message,
        reason=error.reason,
        violations=[Violation(param_of(each.field, skipped=skipped), each.message) for each in error.violations],
        attempts=error.attempts,
        retry_after_seconds=error.retry_after_seconds,
        **error.metadata,
    )


def param_of(field: str, *, skipped: int = 0) -> str:
    """A path of the executor's contract as a path in the body: `run.messages[0].parts` is `messages[0].content`, and
    `overrides.parameters.seed` is `seed`."""
    if skipped and (own := _OWN_MESSAGE.match(field)):
        field = f"messages[{int(own[1]) + skipped}]{field[own.end() :]}"
    above = _ABOVE.match(field)
    path = field[above.end() :] if above else field
    head = _HEAD.match(path)
    if head is None:
        return path
    if head[0] in ("messages", "prefix_messages"):
        return _PART.sub(lambda part: _NAMES_IN_MESSAGES.get(part[0], part[0]), path)
    return _NAMES.get(head[0], head[0]) + path[head.end() :]
