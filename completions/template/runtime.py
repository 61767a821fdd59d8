"""What a running template may do: operations on plain JSON data, each paid for from one budget before it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from jinja2 import Environment, Undefined, pass_context
from jinja2.runtime import Context, LoopContext
from jinja2.utils import missing

from completions.template.lexer import Refused
from completions.template.paths import Step
from kit.json import Json

MAX_ITERATIONS = 10_000
MAX_TEXT = 1 << 20
"""Characters of any one text made on the way, and UTF-8 bytes of the output."""
MAX_WORK = 300_000
"""Steps of one render: a step is one node of the syntax tree, one element, or 16 characters: 0.1 to 0.2 µs."""
_CHARACTERS_PER_STEP_LOG2 = 4
_STEPS_PER_CONTAINER = 4
_STEPS_PER_MISSING = 20
_MAX_SHOWN = 64
"""Characters of a key that an error shows."""
_MAX_INTEGER_BITS = 128

_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (type(None), "null"),
    (bool, "a boolean"),
    ((int, float), "a number"),
    (str, "a string"),
    ((list, tuple), "an array"),
    (dict, "an object"),
)

Operand: TypeAlias = object
"""JSON data, a :class:`Missing`, or what a template made of them."""
Number: TypeAlias = int | float
Function: TypeAlias = Callable[..., Operand]
"""A filter, test or operation: takes the context and the value in front of it."""


class Budget:
    """What one render has left, and what it found missing."""

    __slots__ = ("iterations", "missing", "output", "work")

    def __init__(self) -> None:
        self.iterations = MAX_ITERATIONS
        self.work = MAX_WORK
        self.output = MAX_TEXT
        self.missing: dict[str, None] = {}

    def spend(self, steps: int) -> None:
        self.work -= steps
        if self.work < 0:
            raise Refused("TEMPLATE_WORK_LIMIT", "does too much work for one render")

    def spend_text(self, characters: int) -> None:
        """Pay for a text before it is made."""
        if characters > MAX_TEXT:
            raise Refused("TEMPLATE_OUTPUT_LIMIT", f"would make a text of more than {MAX_TEXT} characters")
        self.spend(characters >> _CHARACTERS_PER_STEP_LOG2)

    def spend_search(self, text: str, part: str) -> None:
        """Pay for looking for `part`: Python compares a short one at every position."""
        self.spend(len(text) * min(len(part) + 4, 128) >> 6)

    def iterate(self, count: int, weight: int) -> None:
        """Pay for a whole loop at its start; nothing in the language leaves a loop early."""
        self.iterations -= count
        if self.iterations < 0:
            raise Refused("TEMPLATE_LOOP_LIMIT", f"would loop more than {MAX_ITERATIONS} times")
        self.spend(count * weight)

    def emit(self, text: str) -> str:
        """Pay for output."""
        self.output -= len(text) if text.isascii() else len(text.encode())
        if self.output < 0:
            raise Refused("TEMPLATE_OUTPUT_LIMIT", f"would write more than {MAX_TEXT} bytes")
        return text


class Missing(Undefined):
    """A value that is not there. Asking whether it is defined is fine; any other use is noted, and fails the render.

    The render goes on after the first use, with nothing in the value's place, so that one failure names all that is
    missing.
    """

    __slots__ = ("_budget", "_key", "_path")
    _budget: Budget | None
    _path: str | None
    _key: Missing | None

    @classmethod
    def at(cls, budget: Budget, path: str | None, hint: str, key: Missing | None = None) -> Missing:
        """:param path: where in the variables it is missing; None: nowhere that a caller could mend
        :param key: what it was looked up by, if that is missing too
        """
        self = cls(hint)
        self._budget, self._path, self._key = budget, path, key
        return self

    def __init__(self, hint: str | None = None, obj: object = missing, name: str | None = None) -> None:
        # How Jinja itself makes one: for a local name that was never set, and beyond the ends of a loop.
        super().__init__(hint or f"{name!r} is not set here", obj, name)
        self._budget, self._path, self._key = None, None, None

    def use(self) -> None:
        """:raises Refused: if no caller could mend it"""
        if self._key is not None:
            self._key.use()
        if self._budget is None or self._path is None:
            raise Refused("TEMPLATE_FAILED", str(self._undefined_hint))
        self._budget.missing[self._path] = None

    def __bool__(self) -> bool:
        self.use()
        return False

    def __str__(self) -> str:
        self.use()
        return ""

    def __iter__(self) -> Iterator[object]:
        self.use()
        return iter(())

    def __len__(self) -> int:
        self.use()
        return 0

    def __contains__(self, item: object) -> bool:
        self.use()
        return False

    def __hash__(self) -> int:
        self.use()
        return 0

    def _compare(self, other: object) -> bool:
        self.use()
        return False

    __eq__ = __ne__ = _compare
    __lt__ = __le__ = __gt__ = __ge__ = _compare  # type: ignore[assignment]  # Jinja's raise at once


class RenderContext(Context):
    """Jinja's context, with the render's budget; a variable that is not there becomes :class:`Missing` at once."""

    budget: Budget

    def resolve_or_missing(self, key: str) -> object:
        if key in self.vars:
            return self.vars[key]
        if key in self.parent:
            return self.parent[key]
        return Missing.at(self.budget, key, f"{key!r} is not given")


def new_context(environment: Environment, variables: dict[str, Json], budget: Budget) -> RenderContext:
    context = RenderContext(environment, variables, None, {})
    context.budget = budget
    return context


def weigh(budget: Budget, value: Operand) -> None:
    """Pay for looking at all of `value`; a list that holds itself many times over is paid for each time."""
    kind = type(value)
    if kind is str:
        budget.spend(len(value) >> _CHARACTERS_PER_STEP_LOG2)  # type: ignore[arg-type]  # it is a str
        return
    if kind is not list and kind is not dict and kind is not tuple and kind is not Missing:
        return
    steps, limit = 0, budget.work
    open_values: list[Any] = [value]  # Any: told apart by exact type, which mypy does not follow
    while open_values and steps <= limit:
        part = open_values.pop()
        kind = type(part)
        if kind is str:
            steps += len(part) >> _CHARACTERS_PER_STEP_LOG2
        elif kind is list or kind is tuple:
            steps += len(part) + _STEPS_PER_CONTAINER
            open_values.extend(part)
        elif kind is dict:
            steps += 2 * len(part) + _STEPS_PER_CONTAINER
            open_values.extend(part)
            open_values.extend(part.values())
        elif kind is Missing:
            part.use()
    budget.spend(steps)


def text_of(budget: Budget, value: Operand) -> str:
    """`value` as Jinja prints it: text as it is, everything else as Python writes it (`True`, `None`, `['a', 1]`).

    :raises TypeError: for what is no data
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Missing):
        value.use()
        return ""
    if value is None or isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, (list, tuple, dict)):
        raise TypeError(f"{kind_of(value)} cannot be printed")
    weigh(budget, value)
    text = str(value)
    budget.spend_text(len(text))
    return text


def paid_text(budget: Budget, value: Operand) -> str:
    """As :func:`text_of`, to be worked on: paid for."""
    text = text_of(budget, value)
    budget.spend_text(len(text))
    return text


@pass_context
def finalize(context: RenderContext, value: Operand) -> str:
    """What an expression prints."""
    return value if type(value) is str else text_of(context.budget, value)


@pass_context
def get(context: RenderContext, value: Operand, key: Operand, path: str | None) -> Operand:
    """`value.key` and `value[key]`: a member of an object, an element of an array, a character; never Python's
    attributes.
    """
    if isinstance(value, dict):
        try:
            return value[key]
        except KeyError:
            pass
    elif isinstance(value, (list, tuple, str)) and type(key) is int:
        try:
            return value[key]
        except IndexError:
            pass
    elif isinstance(value, Missing) and value._path is None and not isinstance(key, Missing):
        return value
    return _absent(context.budget, key, path)


def _absent(budget: Budget, key: Operand, path: str | None) -> Missing:
    budget.spend(_STEPS_PER_MISSING)
    shown = key[:_MAX_SHOWN] if isinstance(key, str) else key if isinstance(key, int) else type(key).__name__
    if path is not None and path.endswith(Step.ANY.value):
        path = path.removesuffix(Step.ANY.value) + (f".{shown}" if isinstance(shown, str) else f"[{shown}]")
    return Missing.at(budget, path, f"there is no element {shown!r}", key if isinstance(key, Missing) else None)


def get_loop(value: LoopContext, key: str) -> Operand:
    """`loop.key`; which keys there are is checked when the template is written."""
    return getattr(value, key)


@pass_context
def get_slice(context: RenderContext, value: Operand, start: Operand, stop: Operand, step: Operand) -> Operand:
    """`value[start:stop:step]`."""
    if isinstance(value, Missing):
        value.use()
        return value
    if not isinstance(value, (list, tuple, str)):
        raise TypeError(f"{kind_of(value)} cannot be sliced")
    context.budget.spend(len(value) >> _CHARACTERS_PER_STEP_LOG2 if isinstance(value, str) else len(value))
    return value[slice(start, stop, step)]  # type: ignore[arg-type]  # TypeError is answered


@pass_context
def iterate(context: RenderContext, value: Operand, weight: int) -> Operand:
    """What a loop runs over, paid for."""
    if isinstance(value, Missing):
        value.use()
        return ()
    if not isinstance(value, (list, tuple, dict, str)):
        raise TypeError(f"{kind_of(value)} cannot be looped over")
    context.budget.iterate(len(value), weight)
    return value


@pass_context
def concat(context: RenderContext, *values: Operand) -> str:
    """`a ~ b`."""
    texts = [text_of(context.budget, value) for value in values]
    context.budget.spend_text(sum(map(len, texts)))
    return "".join(texts)


@pass_context
def capture(context: RenderContext, value: Operand) -> str:
    """A piece of a `{% set %}` block."""
    return paid_text(context.budget, value)


@pass_context
def weighed(context: RenderContext, value: Operand) -> Operand:
    """An operand of a comparison."""
    weigh(context.budget, value)
    return value


@pass_context
def contains(context: RenderContext, container: Operand, item: Operand) -> bool:
    """`item in container`."""
    for value in (container, item):
        if isinstance(value, Missing):
            value.use()
            return False
    if isinstance(container, dict):
        return item in container
    if isinstance(container, str) and isinstance(item, str):
        context.budget.spend_search(container, item)
        return item in container
    if not isinstance(container, (list, tuple)):
        raise TypeError(f"{kind_of(item)} in {kind_of(container)} makes no sense")
    context.budget.spend(len(container))
    if isinstance(item, (list, tuple, dict)):
        weigh(context.budget, item)
        weigh(context.budget, container)
    return item in container


def kind_of(value: object) -> str:
    """What a value is, in words of JSON, which is what callers give."""
    for kinds, name in _KINDS:
        if isinstance(value, kinds):
            return name
    return f"a {type(value).__name__}"


def number(value: Operand) -> Number:
    """:raises TypeError: unless it is one; true and false count, as everywhere in Jinja"""
    if not isinstance(value, (int, float)):
        raise TypeError(f"{kind_of(value)} is not a number")
    return value


def integer_between(value: Operand, low: int, high: int) -> int:
    """:raises ValueError: unless it is an integer from `low` to `high`"""
    if not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"an argument is not an integer from {low} to {high}")
    return value


_ARITHMETIC: dict[str, Callable[[Number, Number], Operand]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "//": lambda left, right: left // right,
    "%": lambda left, right: left % right,
    "**": lambda left, right: left**right,
}


def arithmetic(budget: Budget, operator: str, left: Operand, right: Operand) -> Operand:
    """A binary operator: on numbers, and `+` on two texts or two lists. No repetition, no formatting.

    :raises TypeError: for other operands
    :raises Refused: `TEMPLATE_WORK_LIMIT` where the result would be an integer beyond 128 bits
    """
    for value in (left, right):
        if isinstance(value, Missing):
            value.use()
            return value
    if operator == "+":
        if isinstance(left, str) and isinstance(right, str):
            budget.spend_text(len(left) + len(right))
            return left + right
        if isinstance(left, list) and isinstance(right, list):
            budget.spend(len(left) + len(right))
            return left + right
    left, right = number(left), number(right)
    if isinstance(left, int) and isinstance(right, int):
        bits = left.bit_length() * max(right, 1) if operator == "**" else left.bit_length() + right.bit_length()
        if bits > _MAX_INTEGER_BITS:
            raise Refused("TEMPLATE_WORK_LIMIT", f"has an integer beyond {_MAX_INTEGER_BITS} bits")
    # A negative number to a fractional power is a complex one, which `number` refuses.
    return number(_ARITHMETIC[operator](left, right))


def negate(operator: str, value: Operand) -> Operand:
    """`-value` and `+value`."""
    if isinstance(value, Missing):
        value.use()
        return value
    return -number(value) if operator == "-" else +number(value)


OPERATIONS: dict[str, Function] = {
    "<capture>": capture,
    "<concat>": concat,
    "<contains>": contains,
    "<get>": get,
    "<iterate>": iterate,
    "<loop>": get_loop,
    "<slice>": get_slice,
    "<weigh>": weighed,
}
"""Put into the syntax tree as filters, under names that no template can write."""
