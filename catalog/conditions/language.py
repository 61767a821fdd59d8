"""Conditions over one declaration of fields: checking, compiling, binding."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import count
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from catalog.conditions.coercion import Coerced, coerce, to_json
from catalog.conditions.condition import Condition, Seen, State
from catalog.conditions.faults import BadCondition, bad_at
from catalog.conditions.fields import Field, FieldKind
from catalog.conditions.limits import Reading, read
from catalog.conditions.vocabulary import FUNCTIONS, binder, checker, evaluator
from kit.lru import Lru

if TYPE_CHECKING:
    from cel_expr_python import cel

MAX_LANGUAGES = 4000
"""Kept by a process; one holds about 1 KB for five fields."""
MAX_BINDERS = 300
"""One for every set of names that dates have in some declaration; one holds 100 to 200 KB."""
MAX_CHECKERS = 8
_COMPILED_BYTES, _COMPILED_BYTES_PER_CHARACTER = 1024, 90
"""What a compiled condition holds: measured, 5 KB for 50 characters and 200 KB for 3,000."""

_FAULT = re.compile(r"ERROR: <input>:(-?\d+):(-?\d+): ([^\n]*)")
_OVERLOAD = re.compile(r"found no matching overload for '([^']*)' applied to '\((.*)\)'")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_SIGNS = {"@in": "in", "_[_]": "[…]", "_?_:_": "? :", "-_": "-", "!_": "!"}
_TYPES = {
    "double": "number",
    "int": "whole number",
    "bool": "boolean",
    "google.protobuf.Timestamp": "date",
    "google.protobuf.Duration": "duration",
    "dyn": "list element",
}
_TYPE = re.compile(r"[A-Za-z][A-Za-z0-9_.]*")
_ADVICE = {
    "has": "ask for a field with present.<field>",
    "timestamp": 'dates are RFC 3339: timestamp("2026-01-31T00:00:00Z")',
    "duration": 'durations are such as duration("36h")',
}


class Bindings:
    """What one call's context holds for the declared fields; made once for all conditions of a call."""

    __slots__ = ("_bound", "_given", "activation")

    def __init__(self, activation: cel.Activation, bound: Mapping[str, object], given: Mapping[str, object]) -> None:
        self.activation = activation
        self._bound = bound
        self._given = given

    def value(self, name: str) -> Coerced | None:
        """A field's value as coerced; None if it is not bound."""
        found: Coerced | None = self._bound.get(f"context.{name}")  # type: ignore[assignment]  # as `coerce` made it
        return found

    def seen(self, name: str) -> Seen:
        """What became of a field."""
        found = self.value(name)
        if found is not None:
            return Seen(name, State.BOUND, to_json(found))
        return Seen(name, State.ABSENT if self._given.get(name) is None else State.UNFIT)

    def longest(self, names: Iterable[str]) -> int:
        """Code points of the longest text that these fields hold."""
        longest = 0
        for name in names:
            found = self.value(name)
            for text in found if isinstance(found, list) else (found,):
                if isinstance(text, str):
                    longest = max(longest, len(text))
        return longest


class _Shared:
    """What languages share: checkers and binders in use, and compiled conditions that somebody holds."""

    __slots__ = ("_binders", "_checkers", "conditions")

    def __init__(self) -> None:
        self.conditions: WeakValueDictionary[tuple[int, str], Condition] = WeakValueDictionary()
        self._checkers: Lru[tuple[Field, ...], cel.Env] = Lru(max_entries=MAX_CHECKERS)
        self._binders: Lru[tuple[str, ...], cel.Env] = Lru(max_entries=MAX_BINDERS)

    def checker(self, fields: tuple[Field, ...]) -> cel.Env:
        found = self._checkers.get(fields)
        if found is None:
            found = checker(fields)
            self._checkers.put(fields, found)
        return found

    def binder(self, dates: tuple[str, ...]) -> cel.Env:
        found = self._binders.get(dates)
        if found is None:
            found = binder(dates)
            self._binders.put(dates, found)
        return found


class Language:
    """The conditions over one declaration of fields. For one event loop.

    :param fields: without faults, as :func:`catalog.conditions.faults_of` finds them
    """

    __slots__ = ("_dates", "_fields", "_kinds", "_nothing", "_number", "_shared", "_slots")

    def __init__(self, fields: Iterable[Field], shared: _Shared, number: int = 0) -> None:
        self._fields = tuple(fields)
        self._kinds = {field.name: field.kind for field in self._fields}
        self._slots = tuple(
            (each.name, each.kind, f"context.{each.name}", f"present.{each.name}") for each in self._fields
        )
        self._nothing: dict[str, object] = {f"present.{field.name}": False for field in self._fields}
        self._shared = shared
        self._number = number
        self._dates = tuple(sorted(f"context.{field.name}" for field in self._fields if field.kind is FieldKind.DATE))

    def bindings(self, context: Mapping[str, object]) -> Bindings:
        """Coerce a context's members to the declared fields; others are ignored. Never raises."""
        bound = self._nothing.copy()
        for name, kind, variable, presence in self._slots:
            given = context.get(name)
            if given is None:
                continue
            # What most calls hold, without the call.
            found = (
                given if kind is FieldKind.STRING and type(given) is str and given.isascii() else coerce(kind, given)
            )
            if found is not None:
                bound[variable] = found
                bound[presence] = True
        return Bindings(self._shared.binder(self._dates).Activation(bound), bound, context)

    def condition(self, text: str) -> Condition:
        """The condition, compiled unless somebody holds it already: keep what is asked for often.

        A text that :meth:`check` refuses gives a condition that is an error for every call.
        """
        key = (self._number, text)
        held = self._shared.conditions.get(key)
        if held is None:
            size_bytes = _COMPILED_BYTES + _COMPILED_BYTES_PER_CHARACTER * len(text)
            try:
                held = Condition(*self._compile(text), size_bytes=size_bytes)
            except BadCondition as fault:
                refusal = f"line {fault.line}, column {fault.column}: {fault.message}"
                held = Condition(None, None, refusal, size_bytes=size_bytes)
            self._shared.conditions[key] = held
        return held

    def check(self, text: str) -> None:
        """See that a condition can be used.

        :raises BadCondition: what is wrong, and where
        """
        _, reading = self._compile(text)
        for function, literal, offset in reading.constants:
            trial = f"''.matches({literal})" if function == "matches" else f"{function}({literal})"
            outcome = evaluator().compile(trial).eval(evaluator().Activation({}))
            if outcome.type().name() == "ERROR":
                reason = str(outcome.value()).partition(": ")[2]
                raise bad_at(text, offset, f"{reason}; {_ADVICE.get(function, 'patterns are RE2')}")

    def _compile(self, text: str) -> tuple[cel.Expression, Reading]:
        reading = read(text, self._kinds)
        try:
            expression = self._shared.checker(self._fields).compile(text)
        except RuntimeError as error:
            raise _fault(str(error)) from None
        kind = expression.return_type().name()
        if kind != "BOOL":
            raise BadCondition(
                f"a condition is true or false, this one is {_article(_TYPES.get(kind.lower(), kind.lower()))}"
            )
        # A checked expression needs no declarations any more, so the checker and its memory need not live as long.
        return evaluator().deserialize(expression.serialize()), reading


class Languages:
    """Languages, those in use. For one event loop."""

    def __init__(self, *, max_languages: int = MAX_LANGUAGES) -> None:
        self._languages: Lru[tuple[Field, ...], Language] = Lru(max_entries=max_languages)
        self._shared = _Shared()
        self._numbers = count()

    def of(self, fields: tuple[Field, ...]) -> Language:
        """The language over these fields; ask once per call, or keep it beside what declares them."""
        language = self._languages.get(fields)
        if language is None:
            language = Language(fields, self._shared, next(self._numbers))
            self._languages.put(fields, language)
        return language


def check(text: str, fields: Iterable[Field]) -> None:
    """See that a condition over these fields can be used, as a revision that holds it is written.

    :raises BadCondition: what is wrong, and where
    """
    Language(fields, _Shared()).check(text)


def _fault(error: str) -> BadCondition:
    """What CEL's compiler says, in conditions' words."""
    found = _FAULT.search(error)
    if found is None:
        if "recursion" in error:
            return BadCondition("the condition is nested too deeply: at most 32 levels; split the rule")
        return BadCondition(f"the condition cannot be read: {error.partition(': ')[2][:200]}")
    line, column, message = max(int(found[1]), 1), max(int(found[2]), 1), found[3]
    if "recursion" in message:
        message = "the condition is nested too deeply: at most 32 levels; split the rule"
    elif overload := _OVERLOAD.fullmatch(message):
        sign = _SIGNS.get(overload[1], overload[1].strip("_"))
        types = _TYPE.sub(lambda word: _TYPES.get(word[0], word[0]), overload[2])
        message = f"{sign} does not take ({types})"
        if sign == "%":
            message += "; write int(…) around numbers"
        elif sign in "+-*/" and types in ("number, whole number", "whole number, number"):
            message += "; write the whole number as 1.0 for 1, or in double(…)"
    elif message.startswith("expression of type "):
        message = _TYPE.sub(lambda word: _TYPES.get(word[0], word[0]), message)
    elif undeclared := _UNDECLARED.match(message):
        name = undeclared[1]
        near = get_close_matches(name[:64], FUNCTIONS, n=1, cutoff=0.6)
        advice = _ADVICE.get(name) or (f"did you mean {near[0]}?" if near and near[0] != name else "")
        if not advice:
            advice = "fields are context.<field>" if name not in FUNCTIONS else "it takes other arguments"
        message = f"{name[:64]!r} is not known here; {advice}"
    return BadCondition(message[:500], line, column)


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
