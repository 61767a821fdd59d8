"""Filters that make texts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, ValuesView
from typing import Any

from jinja2 import pass_context

from completions.template.runtime import (
    Budget,
    Function,
    Missing,
    Operand,
    RenderContext,
    integer_between,
    kind_of,
    paid_text,
    weigh,
)

_MAX_INDENT = 64
_MAX_TRIMMED = 64
_STEPS_PER_LINE = 12
"""Quarters of one."""
_WORDS = re.compile(r"\w+")
_WORD_STARTS = re.compile(r"([-\s({\[<]+)")


def text_filter(change: Callable[[str], Operand]) -> Function:
    @pass_context
    def apply(context: RenderContext, value: Operand) -> Operand:
        made = change(paid_text(context.budget, value))
        if isinstance(made, str):
            context.budget.spend_text(len(made))
        return made

    return apply


@pass_context
def title(context: RenderContext, value: Operand) -> str:
    text = paid_text(context.budget, value)
    # Two steps for a character: the text may be nothing but short words.
    context.budget.spend(2 * len(text))
    made = "".join([word[:1].upper() + word[1:].lower() for word in _WORD_STARTS.split(text)])
    context.budget.spend_text(len(made))
    return made


@pass_context
def wordcount(context: RenderContext, value: Operand) -> int:
    text = paid_text(context.budget, value)
    context.budget.spend(len(text))
    return len(_WORDS.findall(text))


@pass_context
def trim(context: RenderContext, value: Operand, chars: str | None = None) -> str:
    if chars is not None:
        # Every character is looked up in all of them.
        integer_between(len(chars), 0, _MAX_TRIMMED)
    return paid_text(context.budget, value).strip(chars)


@pass_context
def replace(context: RenderContext, value: Operand, old: str, new: str, count: int | None = None) -> str:
    text, old, new = (paid_text(context.budget, part) for part in (value, old, new))
    context.budget.spend_search(text, old)
    found = text.count(old) if count is None else min(text.count(old), max(count, 0))
    context.budget.spend_text(len(text) + found * max(len(new) - len(old), 0))
    return text.replace(old, new, found)


@pass_context
def truncate(
    context: RenderContext,
    value: Operand,
    length: int = 255,
    killwords: bool = False,
    end: str = "...",
    leeway: int = 5,
) -> str:
    text, end = paid_text(context.budget, value), paid_text(context.budget, end)
    if length < len(end) or leeway < 0:
        raise ValueError("length must be at least that of the end, and leeway at least 0")
    if len(text) <= length + leeway:
        return text
    cut = text[: length - len(end)]
    return (cut if killwords else cut.rsplit(" ", 1)[0]) + end


@pass_context
def indent(
    context: RenderContext, value: Operand, width: int | str = 4, first: bool = False, blank: bool = False
) -> str:
    text = paid_text(context.budget, value)
    margin = width if isinstance(width, str) else " " * integer_between(width, 0, _MAX_INDENT)
    integer_between(len(margin), 0, _MAX_INDENT)
    context.budget.spend(text.count("\n"))
    context.budget.spend_text(len(text) + (text.count("\n") + 1) * len(margin))
    lines = text.split("\n")
    shifted = [margin + line if line or blank else line for line in lines[1:]]
    return "\n".join([margin + lines[0] if first else lines[0], *shifted])


@pass_context
def tojson(context: RenderContext, value: Operand, indent: int | None = None) -> str:
    weigh(context.budget, value)
    width = None if indent is None else integer_between(indent, 0, 8)
    if width is not None:
        _pay_for_lines(context.budget, value, width)
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=width, default=_not_json)
    context.budget.spend_text(len(text))
    return text


def _pay_for_lines(budget: Budget, value: Operand, width: int) -> None:
    """Pay for an element on each line, before they are written: what is deep begins far to the right, and takes Python
    a step for each level.

    :param value: weighed
    """
    characters = steps = 0
    waiting: list[tuple[Any, int]] = [(value, 1)]
    while waiting:
        part, level = waiting.pop()
        elements = part.values() if isinstance(part, dict) else part
        if isinstance(elements, (list, tuple, ValuesView)):
            characters += len(elements) * level * width
            steps += len(elements) * (level + _STEPS_PER_LINE)
            waiting.extend([(each, level + 1) for each in elements if isinstance(each, (dict, list, tuple))])
    budget.spend(steps >> 2)
    budget.spend_text(characters)


def _not_json(value: object) -> None:
    if isinstance(value, Missing):
        return value.use()
    raise TypeError(f"{kind_of(value)} is not JSON")
