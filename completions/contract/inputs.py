"""Whether a call's variables keep to the contract: asked of every call, before it is routed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import jsonschema_rs

from completions.contract import paths
from completions.contract.comparison import VARIABLES, Variables, variables_of
from completions.contract.contract import Contract
from completions.contract.document import Document, malformed
from completions.contract.requirements import missing
from kit.errors import Invalid, Violation
from kit.json import Json, dump

_MAX_VIOLATIONS = 32
_MAX_LOOKS = 2_000
"""Schemas that values are held against, up to which the library is asked what is wrong, at 25 µs each.

It explains a union by what is wrong with each branch, and so a recursive one in time exponential in the depth of the
value. Whether something is wrong at all it says without: in nanoseconds, and in linear time.
"""
_BACKTRACKING = jsonschema_rs.FancyRegexOptions(backtrack_limit=10_000)
_CLASSES = {
    "http://json-schema.org/draft-04/schema": jsonschema_rs.Draft4Validator,
    "http://json-schema.org/draft-06/schema": jsonschema_rs.Draft6Validator,
    "http://json-schema.org/draft-07/schema": jsonschema_rs.Draft7Validator,
    "https://json-schema.org/draft/2019-09/schema": jsonschema_rs.Draft201909Validator,
}


class _Validator(Protocol):
    def is_valid(self, instance: object) -> bool: ...
    def validate(self, instance: object) -> None: ...
    def iter_errors(self, instance: object) -> Iterator[jsonschema_rs.ValidationError]: ...


@dataclass(frozen=True, slots=True)
class _Compiled:
    validator: _Validator
    variables: Variables
    known: frozenset[str] | None
    """The variables' names; None when patterns name them, so that they cannot be listed."""
    size: int
    branches: int
    """Schemas that one value is held against, at most."""
    most_required: int
    """Names that may be missing from one value."""

    def looks(self, variables: Mapping[str, Json]) -> int:
        """How much explaining takes, up to a little over the limit."""
        level: list[object] = [variables]
        looks, each = 0, self.branches
        while level and looks <= _MAX_LOOKS:
            # A few missing names are part of the price; a schema may require thousands.
            looks += len(level) * each * (1 + self.most_required // 10)
            each *= self.branches
            level = [
                inner
                for value in level
                for inner in (value.values() if isinstance(value, dict) else value if isinstance(value, list) else ())
            ]
        return looks


class InputCheck:
    """Checks variables against contracts. Validators are kept by their schema's hash, the last used longest.

    :param max_validators: how many are kept
    :param max_bytes: of their schemas' text together; the one in use is kept whatever its size
    """

    def __init__(self, *, max_validators: int = 512, max_bytes: int = 8 << 20) -> None:
        self._max_validators = max_validators
        self._max_bytes = max_bytes
        self._compiled: OrderedDict[bytes, _Compiled] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._compiled)

    def prepare(self, contract: Contract) -> None:
        """Refuse a contract that could not be checked: when it is made, so that no call is the first to fail.

        :raises Invalid: `SCHEMA_MALFORMED` or as :func:`completions.contract.compare`
        """
        if contract.variables:
            self._of(contract)

    def check(self, contract: Contract, variables: Mapping[str, Json]) -> None:
        """Refuse variables that break the contract. Those it does not know are ignored.

        :raises Invalid: `VARIABLES_INVALID` with a violation per fault, up to 32: `variables.trips[2].city must be a
            string`; as :meth:`prepare`
        """
        if not contract.variables:
            return
        compiled = self._of(contract)
        known = compiled.known
        if known is None or variables.keys() <= known:
            relevant = variables
        else:
            relevant = {name: value for name, value in variables.items() if name in known}
        try:
            if compiled.validator.is_valid(relevant):
                return
            faults = _faults(compiled, relevant)
        except ValueError as error:
            # What no parser gives: a text that is not UTF-8, a name that is no text, endless nesting.
            raise _refused([Violation(VARIABLES, f"must be JSON ({error})")]) from None
        raise _refused(faults)

    def missing(self, contract: Contract, variables: Mapping[str, Json]) -> list[str]:
        """What variables that are refused lack, such as `user.name`; nothing if they are wrong in other ways only.

        :raises Invalid: as :meth:`prepare`
        """
        return missing(self._of(contract).variables, dict(variables)) if contract.variables else []

    def _of(self, contract: Contract) -> _Compiled:
        digest = contract.variables_digest
        compiled = self._compiled.get(digest)
        if compiled is None:
            compiled = self._compiled[digest] = _compile(contract.variables or {})
            self._bytes += compiled.size
            while len(self._compiled) > 1 and (
                len(self._compiled) > self._max_validators or self._bytes > self._max_bytes
            ):
                self._bytes -= self._compiled.popitem(last=False)[1].size
        else:
            self._compiled.move_to_end(digest)
        return compiled


def _compile(schema: dict[str, Json]) -> _Compiled:
    variables = variables_of(schema)
    document = variables.shapes.document
    shape = variables.shapes.at(variables.place) or ()
    names = frozenset(name for alternative in shape for name in (*alternative.properties, *alternative.required))
    try:
        validator = _class_of(schema, document)(
            schema, offline=True, validate_formats=False, pattern_options=_BACKTRACKING
        )
    except (jsonschema_rs.ValidationError, ValueError) as error:
        message = error.message if isinstance(error, jsonschema_rs.ValidationError) else str(error)
        raise malformed(VARIABLES, f"is no JSON schema: {message[:200]}") from None
    named_by_pattern = any(name.startswith("/") and name.endswith("/") for name in names)
    known = None if named_by_pattern else names
    return _Compiled(validator, variables, known, len(dump(schema)), document.weight, document.most_required)


def _class_of(schema: dict[str, Json], document: Document) -> type:
    dialect = schema.get("$schema")
    known = _CLASSES.get(dialect.removesuffix("#")) if isinstance(dialect, str) else None
    if known is None and document.has_lists_of_items:
        known = jsonschema_rs.Draft201909Validator
    # A declaration of a dialect that is not known, or of none, is read as the current one.
    return known or jsonschema_rs.Draft202012Validator


def _faults(compiled: _Compiled, variables: Mapping[str, Json]) -> list[Violation]:
    validator = compiled.validator
    if compiled.looks(variables) <= _MAX_LOOKS:
        found = dict.fromkeys(map(_violation, list(validator.iter_errors(variables))[:_MAX_VIOLATIONS]))
        return list(found) or [Violation(VARIABLES, "must keep to the contract")]
    if compiled.branches == 1:
        try:
            validator.validate(variables)
        except jsonschema_rs.ValidationError as error:
            return [_violation(error)]
    for name in list(variables)[:_MAX_VIOLATIONS]:
        if validator.is_valid({other: value for other, value in variables.items() if other != name}):
            return [Violation(paths.member(VARIABLES, name), "must keep to the contract")]
    return [Violation(VARIABLES, "must keep to the contract")]


def _refused(faults: list[Violation]) -> Invalid:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Invalid(f"{faults[0].field} {faults[0].message}{more}", reason="VARIABLES_INVALID", violations=faults)


def _violation(error: jsonschema_rs.ValidationError) -> Violation:
    name, value = error.kind.name, error.kind.value
    path = paths.place(VARIABLES, error.instance_path)
    if name == "required":
        return Violation(paths.member(path, str(value)), "is required")
    if name == "additionalProperties" and isinstance(value, list) and value:
        return Violation(paths.member(path, str(value[0])), "is no member that the contract allows")
    return Violation(path, _message(name, value))


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


def _message(name: str, value: object) -> str:
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
        return "must fit one of the forms that the contract allows"
    if name == "falseSchema":
        return "must not be given"
    if name == "uniqueItems":
        return "must not repeat an element"
    return f"must keep to the contract's {name}"


def _shown(value: object) -> str:
    return dump(value)[:80]


def _a(kind: str) -> str:
    if kind == "null":
        return kind
    return f"an {kind}" if kind[0] in "aio" else f"a {kind}"
