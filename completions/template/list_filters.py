"""Filters of lists, objects and texts as sequences of their elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jinja2 import pass_context

from completions.template.paths import steps_of, unplaced
from completions.template.predicates import TESTS
from completions.template.runtime import (
    Function,
    Missing,
    Operand,
    RenderContext,
    get,
    kind_of,
    number,
    paid_text,
    weigh,
)

_STEPS_PER_ELEMENT = 3
"""What doing something with one element in Python costs, in steps of the budget."""


def _elements(context: RenderContext, value: Operand) -> list[object]:
    """The elements of a list, the keys of an object or the characters of a text, paid for."""
    if isinstance(value, Missing):
        value.use()
        return []
    if not isinstance(value, (list, tuple, dict, str)):
        raise TypeError(f"{kind_of(value)} has no elements")
    context.budget.spend(_STEPS_PER_ELEMENT * len(value))
    return list(value)


def _follow(context: RenderContext, value: Operand, attribute: str) -> Operand:
    place, name = unplaced(attribute)
    for step in steps_of(name):
        context.budget.spend(_STEPS_PER_ELEMENT)
        value = get(context, value, step, f"{place}.{name}" if place else None)
    return value


def _sort_key(context: RenderContext, attribute: str | None, case_sensitive: bool) -> Callable[[object], object]:
    def key(element: object) -> object:
        value = element if attribute is None else _follow(context, element, attribute)
        return value.lower() if isinstance(value, str) and not case_sensitive else value

    return key


def _sorted(
    context: RenderContext, elements: list[object], key: Callable[[object], object], reverse: bool
) -> list[object]:
    weigh(context.budget, elements)
    context.budget.spend(_STEPS_PER_ELEMENT * len(elements))
    keys = [key(element) for element in elements]
    if any(isinstance(made, Missing) for made in keys):
        for made in keys:
            if isinstance(made, Missing):
                made.use()
        return elements
    comparable: Any = keys  # what does not compare raises TypeError, which is answered
    order = sorted(range(len(elements)), key=comparable.__getitem__, reverse=reverse)
    return [elements[index] for index in order]


@pass_context
def join(context: RenderContext, value: Operand, d: str = "", attribute: str | None = None) -> str:
    elements = _elements(context, value)
    if attribute is not None:
        elements = [_follow(context, element, attribute) for element in elements]
    context.budget.spend(_STEPS_PER_ELEMENT * len(elements))
    texts = [paid_text(context.budget, element) for element in elements]
    separator = paid_text(context.budget, d)
    context.budget.spend_text(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def pick(choose: Callable[[list[object]], object]) -> Function:
    @pass_context
    def picked(context: RenderContext, value: Operand) -> Operand:
        if isinstance(value, Missing):
            return value
        elements = _elements(context, value)
        return choose(elements) if elements else Missing.at(context.budget, None, "the list is empty")

    return picked


def extreme(reverse: bool) -> Function:
    @pass_context
    def found(
        context: RenderContext, value: Operand, case_sensitive: bool = False, attribute: str | None = None
    ) -> Operand:
        elements = _elements(context, value)
        if not elements:
            return value if isinstance(value, Missing) else Missing.at(context.budget, None, "the list is empty")
        return _sorted(context, elements, _sort_key(context, attribute, case_sensitive), reverse)[0]

    return found


@pass_context
def as_list(context: RenderContext, value: Operand) -> list[object]:
    return _elements(context, value)


@pass_context
def reverse(context: RenderContext, value: Operand) -> Operand:
    if isinstance(value, str):
        return paid_text(context.budget, value)[::-1]
    return _elements(context, value)[::-1]


@pass_context
def sort(
    context: RenderContext,
    value: Operand,
    reverse: bool = False,
    case_sensitive: bool = False,
    attribute: str | None = None,
) -> list[object]:
    return _sorted(context, _elements(context, value), _sort_key(context, attribute, case_sensitive), reverse)


@pass_context
def unique(
    context: RenderContext, value: Operand, case_sensitive: bool = False, attribute: str | None = None
) -> list[object]:
    elements, key = _elements(context, value), _sort_key(context, attribute, case_sensitive)
    weigh(context.budget, elements)
    context.budget.spend(_STEPS_PER_ELEMENT * len(elements))
    first: dict[object, object] = {}
    for element in elements:
        first.setdefault(key(element), element)
    return list(first.values())


@pass_context
def total(context: RenderContext, value: Operand, attribute: str | None = None, start: float = 0) -> Operand:
    made = number(start)
    for element in _elements(context, value):
        part = element if attribute is None else _follow(context, element, attribute)
        if isinstance(part, Missing):
            part.use()
        else:
            made += number(part)
    return made


@pass_context
def items(context: RenderContext, value: Operand) -> list[tuple[object, object]]:
    if isinstance(value, Missing):
        value.use()
        return []
    if not isinstance(value, dict):
        raise TypeError(f"{kind_of(value)} has no members")
    context.budget.spend(len(value))
    return list(value.items())


@pass_context
def dictsort(
    context: RenderContext, value: Operand, case_sensitive: bool = False, by: str = "key", reverse: bool = False
) -> list[object]:
    position = ("key", "value").index(by)
    members: list[object] = list(items(context, value))
    return _sorted(context, members, _sort_key(context, str(position), case_sensitive), reverse)


@pass_context
def map_each(
    context: RenderContext,
    value: Operand,
    name: str | None = None,
    *args: Operand,
    attribute: str | None = None,
    default: Operand = None,
) -> list[object]:
    elements = _elements(context, value)
    if attribute is None:
        if name is None:
            raise TypeError("map needs the name of a filter or an attribute")
        context.budget.spend(_STEPS_PER_ELEMENT * len(elements))
        return [context.environment.filters[name](context, element, *args) for element in elements]
    found = [_follow(context, element, attribute) for element in elements]
    return found if default is None else [default if isinstance(part, Missing) else part for part in found]


def selection(wanted: bool, by_attribute: bool) -> Function:
    def chosen(
        context: RenderContext, value: Operand, attribute: str | None, test: str | None, args: Sequence[Operand]
    ) -> list[object]:
        kept = []
        for element in _elements(context, value):
            part = element if attribute is None else _follow(context, element, attribute)
            context.budget.spend(_STEPS_PER_ELEMENT)
            if bool(part if test is None else TESTS[test](context, part, *args)) is wanted:
                kept.append(element)
        return kept

    @pass_context
    def select(context: RenderContext, value: Operand, test: str | None = None, *args: Operand) -> list[object]:
        return chosen(context, value, None, test, args)

    @pass_context
    def select_by_attribute(
        context: RenderContext, value: Operand, attribute: str, test: str | None = None, *args: Operand
    ) -> list[object]:
        return chosen(context, value, attribute, test, args)

    return select_by_attribute if by_attribute else select
