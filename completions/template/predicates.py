"""The tests of the template language, as in `value is odd`: Jinja's, as far as they concern data."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from jinja2 import pass_context

from completions.template.runtime import Function, Missing, Operand, RenderContext, contains, number, weigh


def _test(holds: Callable[[Operand], bool]) -> Function:
    """A test of a value that is there: of a missing one it is false, and the use is noted."""

    @pass_context
    def test(context: RenderContext, value: Operand) -> bool:
        if isinstance(value, Missing):
            value.use()
            return False
        if isinstance(value, str):
            weigh(context.budget, value)
        return holds(value)

    return test


def _comparison(holds: Callable[[Any, Any], bool]) -> Function:
    """A test against another value. Any: operands that do not compare raise TypeError, which is answered."""

    @pass_context
    def test(context: RenderContext, value: Operand, other: Operand) -> bool:
        for operand in (value, other):
            weigh(context.budget, operand)
            if isinstance(operand, Missing):
                return False
        return holds(value, other)

    return test


@pass_context
def is_defined(context: RenderContext, value: Operand) -> bool:
    return not isinstance(value, Missing)


@pass_context
def is_undefined(context: RenderContext, value: Operand) -> bool:
    return isinstance(value, Missing)


@pass_context
def is_in(context: RenderContext, value: Operand, container: Operand) -> bool:
    return contains(context, container, value)


def _is_integer(value: Operand) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_equal, _unequal = _comparison(operator.eq), _comparison(operator.ne)
_greater, _at_least = _comparison(operator.gt), _comparison(operator.ge)
_less, _at_most = _comparison(operator.lt), _comparison(operator.le)

TESTS: dict[str, Function] = {
    "!=": _unequal,
    "<": _less,
    "<=": _at_most,
    "==": _equal,
    ">": _greater,
    ">=": _at_least,
    "boolean": _test(lambda value: isinstance(value, bool)),
    "defined": is_defined,
    "divisibleby": _comparison(lambda value, divisor: number(value) % number(divisor) == 0),
    "eq": _equal,
    "equalto": _equal,
    "even": _test(lambda value: number(value) % 2 == 0),
    "false": _test(lambda value: value is False),
    "float": _test(lambda value: isinstance(value, float)),
    "ge": _at_least,
    "greaterthan": _greater,
    "gt": _greater,
    "in": is_in,
    "integer": _test(_is_integer),
    "iterable": _test(lambda value: isinstance(value, (str, list, tuple, dict))),
    "le": _at_most,
    "lessthan": _less,
    "lower": _test(lambda value: isinstance(value, str) and value.islower()),
    "lt": _less,
    "mapping": _test(lambda value: isinstance(value, dict)),
    "ne": _unequal,
    "none": _test(lambda value: value is None),
    "number": _test(lambda value: isinstance(value, (int, float))),
    "odd": _test(lambda value: number(value) % 2 == 1),
    "sequence": _test(lambda value: isinstance(value, (str, list, tuple, dict))),
    "string": _test(lambda value: isinstance(value, str)),
    "true": _test(lambda value: value is True),
    "undefined": is_undefined,
    "upper": _test(lambda value: isinstance(value, str) and value.isupper()),
}
