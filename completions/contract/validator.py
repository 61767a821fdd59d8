"""Values held against one schema, in bounded time, with what is wrong in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Protocol

import jsonschema_rs

from completions.contract import paths
from completions.contract.document import Document, malformed, too_large
from completions.contract.effort import Effort
from completions.contract.pattern import BACKTRACKS
from kit.errors import Violation
from kit.json import MAX_DEPTH, Json, dump

MAX_VIOLATIONS = 32
_FRACTION: Final = re.compile(rb"\d[.eE][-+\d]")
_MAX_LOOKS = 2_000
"""Looks at a schema, up to which the library is asked what is wrong, at 25 µs each: it explains a union by what is
wrong with each branch. Whether something is wrong at all it says in nanoseconds.
"""
_MAX_REPEATED_LOOKS = 10_000
"""Up to which is tried which of up to 32 members is wrong."""
_MAX_COPIED_LOOKS = 150_000
"""Up to which the library is asked for the first fault: it copies what is wrong, in 20 ms if that is a long list."""
_MAX_POSITIONS = 10_000
"""Of a pattern: one that looks around is written out in memory, whatever it comes to."""
_CLASSES = {
    "http://json-schema.org/draft-04/schema": jsonschema_rs.Draft4Validator,
    "http://json-schema.org/draft-06/schema": jsonschema_rs.Draft6Validator,
    "http://json-schema.org/draft-07/schema": jsonschema_rs.Draft7Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema_rs.Draft201909Validator,
}


class _Compiled(Protocol):
    def is_valid(self, instance: object) -> bool: ...
    def validate(self, instance: object) -> None: ...
    def iter_errors(self, instance: object) -> Iterator[jsonschema_rs.ValidationError]: ...


class Validator:
    """Holds values against a schema.

    :param schema: not to be changed afterwards
    :param document: the same, already found in order
    :param path: what a value is called in sentences, such as `variables`
    :param name: what the schema is called there, such as `contract`
    :param backtracks: steps that a pattern which looks around or back may take in one place; past them, it fails
    :raises Invalid: `SCHEMA_MALFORMED`; `SCHEMA_TOO_LARGE` where a pattern is
    """

    __slots__ = ("_branches", "_compiled", "_most_required", "_name", "_path", "effort", "size")

    def __init__(self, schema: Json, document: Document, *, path: str, name: str, backtracks: int = BACKTRACKS) -> None:
        self._path, self._name = path, name
        self._branches, self._most_required = document.weight, document.most_required
        self.effort = Effort(schema, document)
        if self.effort.most_positions > _MAX_POSITIONS:
            raise too_large(
                document.path, f"must not have a pattern that is repeated to more than {_MAX_POSITIONS} characters"
            )
        self.size = len(dump(schema))
        """Of the schema's text."""
        try:
            self._compiled: _Compiled = _class_of(schema, document)(
                schema,
                offline=True,
                validate_formats=False,
                pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=backtracks),
            )
        except (jsonschema_rs.ValidationError, ValueError) as error:
            message = error.message if isinstance(error, jsonschema_rs.ValidationError) else str(error)
            raise malformed(document.path, f"is no JSON schema: {message[:200]}") from None

    def is_valid(self, value: object) -> bool:
        """Whether the value keeps to the schema.

        :raises ValueError: for what no parser gives: a text that is not UTF-8, a name that is no text, endless nesting
        """
        return self._compiled.is_valid(value)

    def looks(self, text: bytes, value: object, *, limit: int, schema: Json = None) -> int:
        """How much work :meth:`is_valid` is, at most, in looks at a schema of some 50 ns.

        :param text: the value as JSON
        :param limit: beyond it, it is counted more exactly
        :param schema: what the value is held against, one of the document's; None: the whole
        """
        effort = self.effort
        # More than there are: commas and brackets inside of texts count too.
        opened = text.count(b"[") + text.count(b"{")
        work = effort.most(min(opened, MAX_DEPTH), schema)
        looks = (1 + opened + text.count(b",")) * work.value
        if looks > limit:
            counts = _levels(value)
            work = effort.most(len(counts) - 1, schema)
            looks = sum(count * effort.at(depth, schema).value for depth, count in enumerate(counts))
        looks += len(text) * work.character // 100
        if work.fraction:
            looks += len(_FRACTION.findall(text)) * work.fraction
        return looks

    def faults(self, value: Json, *, looks: int = 0) -> list[Violation]:
        """What is wrong with a value that is not valid: up to 32 faults, as precise as can be told quickly.

        :param looks: what :meth:`is_valid` costs, if that is known to be more than the looks at the schemas themselves
        :raises ValueError: as :meth:`is_valid`
        """
        own = self._looks(value)
        if own <= _MAX_LOOKS:
            errors = list(self._compiled.iter_errors(value))[:MAX_VIOLATIONS]
            return list(dict.fromkeys(map(self._violation, errors))) or [self._somewhere(self._path)]
        if self._branches == 1 and looks <= _MAX_COPIED_LOOKS:
            try:
                self._compiled.validate(value)
            except jsonschema_rs.ValidationError as error:
                return [self._violation(error)]
        if isinstance(value, dict) and max(looks, own) <= _MAX_REPEATED_LOOKS:
            for name in list(value)[:MAX_VIOLATIONS]:
                if self._compiled.is_valid({other: inner for other, inner in value.items() if other != name}):
                    return [self._somewhere(paths.member(self._path, name))]
        return [self._somewhere(self._path)]

    def _looks(self, value: Json) -> int:
        """At schemas, up to a little over the limit."""
        level: list[Json] = [value]
        looks = depth = 0
        while level and looks <= _MAX_REPEATED_LOOKS:
            # A few missing names are part of the price; a schema may require thousands.
            looks += len(level) * self.effort.at(depth).schemas * (1 + self._most_required // 10)
            level = [
                inner
                for one in level
                for inner in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
            ]
            depth += 1
        return looks

    def _somewhere(self, path: str) -> Violation:
        return Violation(path, f"must keep to the {self._name}")

    def _violation(self, error: jsonschema_rs.ValidationError) -> Violation:
        name, value = error.kind.name, error.kind.value
        path = paths.place(self._path, error.instance_path)
        if name == "required":
            return Violation(paths.member(path, str(value)), "is required")
        if name == "additionalProperties" and isinstance(value, list) and value:
            return Violation(paths.member(path, str(value[0])), f"is no member that the {self._name} allows")
        return Violation(path, self._message(name, value))

    def _message(self, name: str, value: object) -> str:
        """What the schema asks for. Never the value itself: errors are kept longer than calls."""
        if name == "type":
            kinds = value if isinstance(value, list) else [value]
            return "must be " + " or ".join(
                _a(str(kind)) for kind in sorted(kinds, key=lambda kind: (kind == "null", kind))
            )
        if name == "enum" and isinstance(value, list):
            listed = ", ".join(_shown(one) for one in value[:8])
            return f"must be one of {listed}{', …' if len(value) > 8 else ''}"
        if name == "const":
            return f"must be {_shown(value)}"
        if name in _LIMITS:
            return _LIMITS[name].format(value)[:200]
        if name in ("anyOf", "oneOf"):
            return f"must fit one of the forms that the {self._name} allows"
        if name == "falseSchema":
            return "must not be given"
        if name == "uniqueItems":
            return "must not repeat an element"
        return f"must keep to the {self._name}'s {name}"


def _levels(value: object) -> list[int]:
    """How many values there are on each level of nesting."""
    level: list[object] = [value]
    counts: list[int] = []
    while level:
        counts.append(len(level))
        level = [
            inner
            for one in level
            if isinstance(one, (dict, list))
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    return counts


def _class_of(schema: Json, document: Document) -> type:
    dialect = schema.get("$schema") if isinstance(schema, dict) else None
    known = _CLASSES.get(dialect.removesuffix("#")) if isinstance(dialect, str) else None
    if known is None and document.has_lists_of_items:
        known = jsonschema_rs.Draft201909Validator
    # A declaration of a dialect that is not known, or of none, is read as the current one.
    return known or jsonschema_rs.Draft202012Validator


_LIMITS = {
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} elements",
    "maxItems": "must have at most {} elements",
    "minProperties": "must have at least {} members",
    "maxProperties": "must have at most {} members",
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be greater than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "pattern": "must match {}",
}


def _shown(value: object) -> str:
    return dump(value)[:80]


def _a(kind: str) -> str:
    if kind == "null":
        return kind
    return f"an {kind}" if kind[0] in "aio" else f"a {kind}"
