"""The one contract of many variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

from completions.contract.comparison import (
    Variables,
    answers_of,
    compare_answers,
    compare_forms,
    compare_read,
    variables_of,
)
from completions.contract.contract import Contract
from completions.contract.difference import Comparison, Difference, Kind
from completions.contract.document import malformed
from completions.contract.merging import Seen, merged, shared
from completions.contract.response_format import response_format_of
from completions.contract.rewriting import Definitions
from kit.errors import Invalid, Violation
from kit.json import Json, dump

_REFERENCE: Final = '"$ref"'


def contract_of(variants: Mapping[str, Contract], *, max_bytes: int | None = None) -> Contract:
    """The contract of a revision: all its variants' variables, and the one response format they share.

    What one variant requires or limits, the whole does, so that a call which keeps to it suits whichever variant is
    drawn; but members that are unknown to one may be another's, so `additionalProperties: false` is left out. A single
    schema, and equal ones, stay as they are. Takes time for what the variants do not share.

    :param variants: each variant's name and what its version says: `Contract(version.variables_schema,
        version.response_format)`; active or not
    :param max_bytes: of the contract as JSON, an object with `variables` and `response_format`; None: any number
    :raises Invalid: `CONTRACT_CONFLICT` where two variants give a variable different types, or constants of which
        none suits both, or have different response formats: a violation per path, both variants in metadata as `first`
        and `second`; `CONTRACT_TOO_LARGE`; as :func:`completions.contract.compare` where a schema cannot be judged,
        the variant in metadata
    """
    distinct: dict[str, str] = {}
    for name, contract in variants.items():
        distinct.setdefault(_text(name, contract), name)
    names = list(distinct.values())
    if not names:
        return Contract()
    held, answers = _Held(variants), _Answers()
    whole = Contract()
    for index, name in enumerate(names):
        answers.add(name, variants[name].response_format)
        held.add(name, variants[name].variables, names[:index])
        whole = Contract(held.schema(), variants[names[0]].response_format)
        if max_bytes is not None and _bytes_of(whole) > max_bytes:
            message = f"have variables whose schema is longer than {max_bytes} bytes"
            violation = Violation("variants", message)
            raise Invalid(f"variants {message}", reason="CONTRACT_TOO_LARGE", violations=(violation,))
    return whole


def _bytes_of(contract: Contract) -> int:
    return len(dump({"variables": contract.variables, "response_format": contract.response_format}).encode())


@dataclass(slots=True)
class _Answers:
    """The response format that the variants share."""

    _first: str = ""
    _form: str = ""
    _read: Variables | None = None
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def add(self, name: str, given: dict[str, Json] | None) -> None:
        try:
            said = response_format_of(given)
            key = (said.form, dump(said.schema))
            if key in self._seen:
                return
            read = answers_of(said.schema) if said.form == "json_schema" else None
            if read is not None:
                # By itself first, so that a schema that cannot be judged is known to be this variant's.
                compare_answers(read, read)
        except Invalid as refusal:
            raise _of_variant(refusal, name) from None
        if not self._seen:
            self._first, self._form, self._read = name, said.form, read
        elif read is None or self._read is None:
            _refuse(self._first, name, compare_forms(self._form, said.form).differences)
        elif differences := compare_answers(self._read, read).differences:
            _refuse(self._first, name, differences)
        self._seen.add(key)


class _Held:
    """The variables of all variants so far."""

    def __init__(self, variants: Mapping[str, Contract]) -> None:
        self._variants = variants
        self._single: dict[str, Json] | None = None
        self._whole: Json = None
        self._texts: set[str] = set()
        self._definitions = Definitions()
        self._seen = Seen()

    def schema(self) -> dict[str, Json] | None:
        """Of all."""
        if len(self._texts) <= 1:
            return self._single
        whole = self._whole if isinstance(self._whole, dict) else {}
        return {**whole, "$defs": self._definitions.schemas} if self._definitions.schemas else whole

    def add(self, name: str, schema: dict[str, Json] | None, before: Sequence[str]) -> None:
        if not schema or (text := dump(schema)) in self._texts:
            self._single = schema if self._single is None else self._single
            return
        fresh, keys = self._seen.fresh(schema, text)
        try:
            read = variables_of(fresh)
            compare_read(read, read)
        except Invalid as refusal:
            raise _of_variant(refusal, name) from None
        if self._texts:
            conflicts = _conflicts(compare_read(variables_of(self._shared(fresh)), read))
            if conflicts:
                self._refuse(name, fresh, read, before, conflicts)
        added = self._definitions.add(fresh, read.shapes.document)
        self._whole = merged(self._whole, added) if self._texts else added
        self._single = schema if not self._single else self._single
        self._texts.add(text)
        self._seen.keep(keys)

    def _shared(self, fresh: dict[str, Json]) -> Json:
        common = shared(self._whole, fresh)
        if isinstance(common, dict) and _REFERENCE in dump(common):
            return {**common, "$defs": self._definitions.schemas}
        return common

    def _refuse(
        self,
        name: str,
        fresh: dict[str, Json],
        read: Variables,
        before: Sequence[str],
        conflicts: Sequence[Difference],
    ) -> NoReturn:
        for other in before:
            schema = self._variants[other].variables
            if schema:
                found = _conflicts(compare_read(variables_of(self._seen.shared(schema, fresh)), read))
                if found:
                    _refuse(other, name, found)
        _refuse(before[0], name, conflicts)


def _text(name: str, contract: Contract) -> str:
    try:
        return dump([contract.variables, contract.response_format])
    except TypeError:
        raise _of_variant(malformed("variables", "or response_format is no JSON"), name) from None


def _of_variant(refusal: Invalid, name: str) -> Invalid:
    return Invalid(
        f"variant {name}: {refusal.message}", reason=refusal.reason, violations=refusal.violations, variant=name
    )


def _conflicts(comparison: Comparison) -> tuple[Difference, ...]:
    disjoint = (one for one in comparison.warnings if one.kind is Kind.ENUM_DISJOINT)
    return (*(one for one in comparison.differences if one.kind is Kind.TYPE_CHANGED), *disjoint)


def _refuse(first: str, second: str, conflicts: Sequence[Difference]) -> NoReturn:
    violations = [
        Violation(one.path, f"is {one.before} in variant {first} and {one.after} in variant {second}")
        for one in conflicts
    ]
    raise Invalid(
        f"{violations[0].field} {violations[0].message}; variants of one deployment share one contract",
        reason="CONTRACT_CONFLICT",
        violations=violations,
        first=first,
        second=second,
    )
