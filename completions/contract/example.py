"""An input that keeps to a contract, for people to start from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from completions.contract import example_values as values
from completions.contract.contract import Contract
from completions.contract.document import Document
from completions.contract.inputs import InputCheck
from kit.errors import Invalid, Violation
from kit.json import Json, dump

_MAX_LEVELS: Final = 6
_MAX_MEMBERS: Final = 100
_MAX_CHOICES: Final = 64
_MAX_VALUES: Final = 1000
"""Of the whole: schemas share parts by `$ref`, so a small one may describe an enormous document."""
_BYTES_PER_VALUE: Final = 64
"""What a schema gives itself, and every text, counts as so many values."""
_PARTS_PER_VALUE: Final = 8
"""And so does putting together what a schema says in so many places."""


@dataclass(frozen=True, slots=True)
class Example:
    """Variables to start from."""

    variables: dict[str, Json]
    violations: tuple[Violation, ...] = ()
    """Where they do not keep to the contract, and what it asks for there: a pattern, say. Up to 32."""


def example_of(contract: Contract) -> Example:
    """Variables with a value for each, taken from the schema's own examples, defaults and constants where it has some.
    May take some 100 ms.

    Types, ranges, lengths, counts and required members are kept to; patterns and conditions are not looked at, but the
    result is held against them. What is deeper than six levels, or more than about a thousand values or 64 KB in all,
    is left out.

    :raises Invalid: as :func:`completions.contract.compare`, where the schema cannot be judged
    """
    if not contract.variables:
        return Example({})
    found = _Example(Document(contract.variables, "variables")).value(contract.variables, "variables", _MAX_LEVELS)
    variables = found if isinstance(found, dict) else {}
    try:
        InputCheck().check(contract, variables)
    except Invalid as refusal:
        if refusal.reason not in ("VARIABLES_INVALID", "VARIABLES_TOO_LARGE"):
            raise
        return Example(variables, tuple(refusal.violations))
    return Example(variables)


class _LeftOut:
    """Stands for a value that there is no room for."""


@dataclass(slots=True)
class _Example:
    """One that is being made."""

    document: Document
    left: int = _MAX_VALUES
    costs: dict[int, int] = field(default_factory=dict)
    """Of what the schema gives itself, by identity: a thousand references to it measure it once."""

    def value(self, schema: Json, name: str, levels: int, number: int = 0) -> Json | _LeftOut:
        """:param number: of the element, where each must be another"""
        if self.left <= 0 or schema is False:
            return _LeftOut()
        if not isinstance(schema, dict):
            self.left -= 1
            return values.text({}, name, number)
        whole = self._chosen(schema)
        for keyword in ("const", "default"):
            if keyword in whole:
                return self._given(whole[keyword])
        for keyword in ("examples", "enum"):
            listed = whole.get(keyword)
            if isinstance(listed, list) and listed:
                return self._given(listed[number % len(listed)])
        self.left -= 1
        match values.kind_of(whole):
            case "object":
                return self._object(whole, levels) if levels else _LeftOut()
            case "array":
                return self._array(whole, name, levels) if levels else _LeftOut()
            case "integer" | "number" as kind:
                return values.number(whole, number, is_integer=kind == "integer")
            case "boolean":
                return number % 2 == 0
            case "null":
                return None
        found = values.text(whole, name, number, longest=self.left * _BYTES_PER_VALUE)
        self.left -= len(found) // _BYTES_PER_VALUE
        return found

    def _chosen(self, schema: dict[str, Json]) -> dict[str, Json]:
        """Everything that is said of one value, with one branch of each choice."""
        whole = self._together(schema)
        for _ in range(_MAX_CHOICES):
            keyword = next((keyword for keyword in ("anyOf", "oneOf") if isinstance(whole.get(keyword), list)), None)
            if keyword is None:
                break
            branches = whole.pop(keyword)
            useful = [each for each in branches if each is not False] if isinstance(branches, list) else []
            useful = [each for each in useful if not (isinstance(each, dict) and each.get("type") == "null")] or useful
            if useful and isinstance(useful[0], dict):
                whole = values.met(self._together(useful[0]), whole)
        return whole

    def _together(self, schema: dict[str, Json]) -> dict[str, Json]:
        parts = list(self._parts(schema))
        self.left -= len(parts) // _PARTS_PER_VALUE
        whole: dict[str, Json] = {}
        for part in parts:
            whole = values.met(whole, part)
        return whole

    def _parts(self, schema: Json) -> Iterator[dict[str, Json]]:
        """The schema, what it refers to, and what stands in its `allOf`: a `Document` has no circle of these."""
        if not isinstance(schema, dict):
            return
        yield {keyword: each for keyword, each in schema.items() if keyword not in ("$ref", "allOf", "$defs")}
        yield from self._parts(self.document.target(id(schema)))
        together = schema.get("allOf")
        for part in together if isinstance(together, list) else ():
            yield from self._parts(part)

    def _given(self, value: Json) -> Json | _LeftOut:
        cost = self.costs.get(id(value))
        if cost is None:
            cost = self.costs[id(value)] = 1 + len(dump(value)) // _BYTES_PER_VALUE
        if cost > self.left:
            self.left -= 1
            return _LeftOut()
        self.left -= cost
        return value

    def _object(self, schema: dict[str, Json], levels: int) -> dict[str, Json]:
        properties = schema.get("properties")
        known = properties if isinstance(properties, dict) else {}
        listed = schema.get("required")
        required = dict.fromkeys(str(name) for name in listed) if isinstance(listed, list) else {}
        others = schema.get("additionalProperties", True)
        most = min(values.count(schema, "maxProperties", _MAX_MEMBERS), _MAX_MEMBERS)
        optional = [name for name in known if name not in required]
        wanted = [*list(required)[:most], *optional[: max(0, most - len(required))]]
        if others is not False:
            more = (f"member_{number}" for number in range(1, most + 1))
            wanted += [name for name in more if name not in wanted][
                : max(0, min(values.count(schema, "minProperties", 0), most) - len(wanted))
            ]
        chosen = frozenset(wanted)
        # What is required first, lest there be no room for it; then in the order of the schema.
        made = {name: self.value(known.get(name, others), name, levels - 1) for name in wanted}
        order = [*(name for name in known if name in chosen), *(name for name in wanted if name not in known)]
        return {name: each for name in order if not isinstance(each := made[name], _LeftOut)}

    def _array(self, schema: dict[str, Json], name: str, levels: int) -> list[Json]:
        items, positions = schema.get("items", True), schema.get("prefixItems", [])
        if isinstance(items, list):
            items, positions = schema.get("additionalItems", True), items
        first = positions if isinstance(positions, list) else []
        least = max(values.count(schema, "minItems", 1), len(first), 1)
        length = min(least, values.count(schema, "maxItems", least), _MAX_MEMBERS)
        is_unique = schema.get("uniqueItems") is True
        found: list[Json] = []
        for index in range(length):
            of = first[index] if index < len(first) else items
            each = self.value(of, name, levels - 1, index if is_unique else 0)
            if isinstance(each, _LeftOut):
                break
            found.append(each)
        return found
