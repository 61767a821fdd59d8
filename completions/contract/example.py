"""An input that keeps to a contract, for people to start from."""

from __future__ import annotations

from typing import Final

from completions.contract.contract import Contract
from completions.contract.document import Document
from kit.json import Json

_MAX_LEVELS: Final = 6
_MAX_MEMBERS: Final = 100
_OF_TYPE: Final[dict[str, Json]] = {"integer": 1, "number": 1.5, "boolean": True, "null": None}


def example_of(contract: Contract) -> dict[str, Json]:
    """Variables with a value for each, taken from the schema's own examples, defaults and constants where it has some.

    Types are kept to; limits (lengths, patterns, ranges) are not looked at, and what is deeper than six levels is left
    out.

    :raises Invalid: as :func:`completions.contract.compare`, where the schema cannot be judged
    """
    if not contract.variables:
        return {}
    Document(contract.variables, "variables")
    found = _value(contract.variables, contract.variables, "variables", _MAX_LEVELS)
    return found if isinstance(found, dict) else {}


def _value(schema: Json, root: dict[str, Json], name: str, levels: int) -> Json:
    if not isinstance(schema, dict) or levels == 0:
        return name
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    for keyword in ("examples", "enum"):
        values = schema.get(keyword)
        if isinstance(values, list) and values:
            return values[0]
    if "$ref" in schema:
        return _value(_target(str(schema["$ref"]), root), root, name, levels - 1)
    for keyword in ("anyOf", "oneOf", "allOf"):
        branches = schema.get(keyword)
        if isinstance(branches, list) and branches and "properties" not in schema:
            useful = [each for each in branches if not (isinstance(each, dict) and each.get("type") == "null")]
            return _value((useful or branches)[0], root, name, levels - 1)
    return _of_kind(schema, root, name, levels)


def _of_kind(schema: dict[str, Json], root: dict[str, Json], name: str, levels: int) -> Json:
    kinds = schema.get("type")
    given = kinds if isinstance(kinds, list) else [kinds]
    kind = next((each for each in given if each != "null"), "null")
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties")
        members = properties if isinstance(properties, dict) else {}
        return {member: _value(of, root, member, levels - 1) for member, of in list(members.items())[:_MAX_MEMBERS]}
    if kind == "array" or "items" in schema:
        return [_value(schema.get("items"), root, name, levels - 1)] if levels > 1 else []
    if isinstance(kind, str) and kind != "string":
        return _OF_TYPE.get(kind, name)
    return name


def _target(reference: str, root: dict[str, Json]) -> Json:
    found: Json = root
    for step in reference.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    return found
