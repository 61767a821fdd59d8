"""The one contract of many variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from completions.contract.comparison import compare_response_formats, compare_variables
from completions.contract.contract import Contract
from completions.contract.difference import Comparison, Difference, Kind
from completions.contract.document import malformed
from completions.contract.rewriting import Definitions, is_silent
from kit.errors import Invalid, Violation
from kit.json import Json, dump

_PLAIN_OBJECT = frozenset({"type", "properties", "required", "additionalProperties"})
_PLAIN_ARRAY = frozenset({"type", "items"})
_NOTES = frozenset({"title", "description", "examples", "default", "$comment", "deprecated"})


def contract_of(variants: Mapping[str, Contract]) -> Contract:
    """The contract of a revision: all its variants' variables, and the one response format they share.

    What one variant requires or limits, the whole does, so that a call which keeps to it suits whichever variant is
    drawn; but members that are unknown to one may be another's, so `additionalProperties: false` is left out. A single
    schema, and equal ones, stay as they are.

    :param variants: each variant's name and what its version says: `Contract(version.variables_schema,
        version.response_format)`; active or not
    :raises Invalid: `CONTRACT_CONFLICT` where two variants give a variable different types, or constants of which
        none suits both, or have different response formats: a violation per path, both variants in metadata as `first`
        and `second`; as :func:`completions.contract.compare` where a schema cannot be judged, the variant in metadata
    """
    distinct: dict[str, str] = {}
    for name, contract in variants.items():
        distinct.setdefault(_text(name, contract), name)
    names = list(distinct.values())
    if not names:
        return Contract()
    whole = variants[names[0]]
    for index, name in enumerate(names):
        # Each by itself first, so that a schema that cannot be judged is known to be this variant's.
        _judged(name, variants[name], variants[name])
        if index:
            whole = _joined(whole, variants, names[:index], name)
    return whole


def _joined(whole: Contract, variants: Mapping[str, Contract], before: Sequence[str], name: str) -> Contract:
    added = variants[name]
    answers = compare_response_formats(whole.response_format, added.response_format)
    if answers.differences:
        _refuse(before[0], name, answers.differences)
    conflicts = _conflicts(compare_variables(whole.variables, added.variables))
    if conflicts:
        for other in before:
            shared = _conflicts(compare_variables(variants[other].variables, added.variables))
            if shared:
                _refuse(other, name, shared)
        _refuse(before[0], name, conflicts)
    return Contract(_union(whole.variables, added.variables), whole.response_format)


def _text(name: str, contract: Contract) -> str:
    try:
        return dump([contract.variables, contract.response_format])
    except TypeError:
        raise _of_variant(malformed("variables", "or response_format is no JSON"), name) from None


def _judged(name: str, one: Contract, other: Contract) -> None:
    try:
        compare_variables(one.variables, other.variables)
        compare_response_formats(one.response_format, other.response_format)
    except Invalid as refusal:
        raise _of_variant(refusal, name) from None


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


def _union(one: dict[str, Json] | None, other: dict[str, Json] | None) -> dict[str, Json] | None:
    if not one or not other or one == other:
        return one or other
    definitions = Definitions()
    merged = _merged(definitions.add(one), definitions.add(other))
    schema = merged if isinstance(merged, dict) else {}
    return {**schema, "$defs": definitions.schemas} if definitions.schemas else schema


def _merged(one: Json, other: Json) -> Json:
    """What satisfies both, written as one would write it where that is possible."""
    if is_silent(other) or dump(one) == dump(other):
        return one
    if is_silent(one):
        return other
    if isinstance(one, dict) and isinstance(other, dict):
        if _is_plain(one, "object", _PLAIN_OBJECT) and _is_plain(other, "object", _PLAIN_OBJECT):
            return _merged_objects(one, other)
        if _is_plain(one, "array", _PLAIN_ARRAY) and _is_plain(other, "array", _PLAIN_ARRAY):
            items = _merged(one.get("items", True), other.get("items", True))
            return {**other, **one, **({} if items is True else {"items": items})}
    conjuncts = one["allOf"] if isinstance(one, dict) and one.keys() == {"allOf"} else [one]
    return {"allOf": [*(conjuncts if isinstance(conjuncts, list) else [one]), other]}


def _merged_objects(one: dict[str, Json], other: dict[str, Json]) -> dict[str, Json]:
    merged: dict[str, Json] = {**other, **one}
    properties, more = _object(one.get("properties")), _object(other.get("properties"))
    both: dict[str, Json] = {
        name: _merged(properties.get(name, more.get(name)), more.get(name, properties.get(name)))
        for name in sorted({*properties, *more})
    }
    merged["properties"] = both
    required = dict.fromkeys(str(name) for side in (one, other) for name in _array(side.get("required")))
    if required:
        merged["required"] = list(required)
    if dump(one.get("additionalProperties")) != dump(other.get("additionalProperties")):
        merged.pop("additionalProperties", None)
    return merged


def _is_plain(schema: dict[str, Json], kind: str, keywords: frozenset[str]) -> bool:
    return schema.keys() <= keywords | _NOTES and schema.get("type") == kind


def _object(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def _array(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
