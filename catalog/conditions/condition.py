"""One condition, compiled, and what it says of one call."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

from catalog.conditions.limits import MAX_MATCHED_LENGTH, Reading
from kit.json import Json
from kit.values import Value

if TYPE_CHECKING:
    from cel_expr_python import cel

    from catalog.conditions.language import Bindings


class Truth(StrEnum):
    """What a condition says; a rule matches only on TRUE."""

    TRUE = "true"
    FALSE = "false"
    MISSING = "missing"
    """It needed a field that the context lacks, or holds as something else."""
    ERROR = "error"


class Outcome(Value):
    """What a condition says of a call, and why it says nothing."""

    truth: Truth
    missing: tuple[str, ...] = ()
    """Fields that were not bound and decided it."""
    message: str = ""
    """Of MISSING and ERROR: a sentence."""


class State(StrEnum):
    """What became of a field in one call."""

    BOUND = "bound"
    ABSENT = "absent"
    UNFIT = "unfit"
    """The context holds something that is not of the field's kind."""


class Seen(Value):
    """What a condition saw of a field that it mentions."""

    field: str
    state: State
    value: Json = None
    """As coerced, dates as RFC 3339 text; None unless bound."""


_TRUE, _FALSE = Outcome(Truth.TRUE), Outcome(Truth.FALSE)
_UNBOUND = re.compile(r'[A-Z_]+: No value with name "context\.([a-z0-9_]+)" found')
_CODE = re.compile(r"^[A-Z_]+: |\s*\[[A-Z_]+\]$")


class Condition:
    """A compiled condition: immutable, and good for any number of calls with bindings of its own language.

    :ivar size_bytes: about what it holds in memory
    """

    __slots__ = ("__weakref__", "_expression", "_fields", "_has_patterns", "_refusal", "size_bytes")

    def __init__(
        self, expression: cel.Expression | None, reading: Reading | None, refusal: str = "", *, size_bytes: int
    ) -> None:
        self.size_bytes = size_bytes
        self._expression = expression
        self._fields = reading.fields if reading else ()
        self._has_patterns = reading is not None and reading.has_patterns
        self._refusal = refusal

    @property
    def fields(self) -> tuple[str, ...]:
        """The declared fields that it mentions, in order of appearance."""
        return self._fields

    def is_true(self, bindings: Bindings) -> bool:
        """Whether the condition holds; anything else but true is false. Never raises."""
        if self._expression is None or (self._has_patterns and bindings.longest(self._fields) > MAX_MATCHED_LENGTH):
            return False
        try:
            return self._expression.eval(bindings.activation).value() is True
        except RuntimeError:
            return False

    def evaluate(self, bindings: Bindings) -> Outcome:
        """What the condition says, and why it says nothing. Never raises."""
        if self._expression is None:
            return Outcome(Truth.ERROR, message=self._refusal)
        if self._has_patterns and bindings.longest(self._fields) > MAX_MATCHED_LENGTH:
            message = f"a condition with matches looks at texts of at most {MAX_MATCHED_LENGTH} characters"
            return Outcome(Truth.ERROR, message=message)
        try:
            found = self._expression.eval(bindings.activation).value()
        except RuntimeError as error:
            found = error
        if found is True:
            return _TRUE
        if found is False:
            return _FALSE
        text = str(found)
        if unbound := _UNBOUND.match(text):
            name = unbound[1]
            message = f"the context has no {name}, or not of its kind; ask for it with present.{name} first"
            return Outcome(Truth.MISSING, (name,), message)
        return Outcome(Truth.ERROR, message=_CODE.sub("", text)[:500])

    def values_seen(self, bindings: Bindings) -> tuple[Seen, ...]:
        """What the call has of each field that the condition mentions."""
        return tuple(bindings.seen(name) for name in self._fields)
