"""Whether a call's variables keep to the contract: asked of every call, before it is routed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from completions.contract import paths
from completions.contract.comparison import VARIABLES, Variables, variables_of
from completions.contract.contract import Contract
from completions.contract.document import NOTES, SAME_LISTS, too_large
from completions.contract.effort import Work
from completions.contract.requirements import missing
from completions.contract.validator import Validator
from kit.errors import Invalid, Violation
from kit.json import Json
from kit.lru import Lru

_MAX_LOOKS: Final = 400_000
"""What holding variables against a contract may take: some 20 ms, on the event loop."""
_USUAL_DEPTH: Final = 4
_MAX_OWN_LOOKS: Final = 10_000
"""What each value may take in variables that are nested so deep: a contract past it could check hardly any call."""
_MAX_LOOKS_PER_CHARACTER: Final = 500
_BESIDE: Final = frozenset(
    {
        *SAME_LISTS,
        *("$ref", "not", "if", "then", "else", "dependentSchemas", "dependencies", "const", "enum"),
        *("patternProperties", "propertyNames", "unevaluatedProperties"),
    }
)
"""Keywords beside which a member is held against more than what `properties` says of it."""
_PLAIN_OBJECT: Final = NOTES | {"type", "properties", "required", "additionalProperties"}
_PLAIN_TEXT: Final = NOTES | {"type"}
_JSON_ONLY: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a contract says of variables, ready for any number of calls."""

    validator: Validator
    variables: Variables
    known: frozenset[str] | None
    """The variables' names; None when patterns name them, so that they cannot be listed."""
    parts: Mapping[str, Json] | None
    """What is said of each variable; None if that is not all that is."""
    texts: frozenset[str] | None
    """The variables that there must be, if they and all others may be any text; else None."""

    def check(self, variables: Mapping[str, Json]) -> None:
        """As :meth:`InputCheck.check`."""
        if self.are_texts(variables):
            return
        known = self.known
        if known is None or variables.keys() <= known:
            relevant = dict(variables)
        else:
            relevant = {name: value for name, value in variables.items() if name in known}
        try:
            looks = self.looks(relevant)
            if looks > _MAX_LOOKS:
                raise _too_large()
            if self.validator.is_valid(relevant):
                return
            faults = self.validator.faults(relevant, looks=looks)
        except (TypeError, ValueError) as error:
            # What no parser gives: a text that is not UTF-8, a name that is no text, endless nesting.
            raise _refused([Violation(VARIABLES, f"must be JSON ({error})")]) from None
        raise _refused(faults)

    def missing(self, variables: Mapping[str, Json]) -> list[str]:
        """What variables that are refused lack, such as `user.name`; nothing if they are wrong in other ways only."""
        return missing(self.variables, dict(variables))

    def are_texts(self, variables: Mapping[str, Json]) -> bool:
        """Whether the contract's variables are there and plain texts, and it takes any: so it is for most calls, and
        there is no need to look closer.
        """
        if self.texts is None or self.known is None or not variables.keys() >= self.texts:
            return False
        for name, value in variables.items():
            # Others may be no text that JSON can hold.
            if name in self.known and not (type(value) is str and value.isascii()):
                return False
        return True

    def looks(self, variables: Mapping[str, Json]) -> int:
        """How much work the check is, at most.

        :raises TypeError: for what is no JSON
        """
        looks = self._looks(variables)
        if looks <= _MAX_LOOKS or self.parts is None:
            return looks
        # A long text beside a pattern for another variable costs nothing.
        return sum(self._looks(value, self.parts[name]) for name, value in variables.items() if name in self.parts)

    def _looks(self, given: Json | Mapping[str, Json], schema: Json = None) -> int:
        text = orjson.dumps(given, option=_JSON_ONLY)
        return self.validator.looks(text, given, limit=_MAX_LOOKS, schema=schema)


class InputCheck:
    """Checks variables against contracts. Validators are kept by their schema's hash, the last used longest.

    :param max_validators: how many are kept
    :param max_bytes: of their schemas' text together; the one in use is kept whatever its size
    """

    def __init__(self, *, max_validators: int = 512, max_bytes: int = 8 << 20) -> None:
        self._compiled: Lru[bytes, Inputs] = Lru(max_entries=max_validators, max_bytes=max_bytes)

    def __len__(self) -> int:
        return len(self._compiled)

    def prepare(self, contract: Contract) -> None:
        """Refuse a contract that could not be checked: when it is made, so that no call is the first to fail.

        :raises Invalid: `SCHEMA_MALFORMED`; `SCHEMA_TOO_LARGE` also where one variable is held against too much, with
            its path; or as :func:`completions.contract.compare`
        """
        if contract.variables:
            _refuse_hard_ones(self._of(contract))

    def check(self, contract: Contract, variables: Mapping[str, Json]) -> None:
        """Refuse variables that break the contract. Those it does not know are ignored. Takes microseconds, and for up
        to 256 KiB of variables no more than 50 ms whatever the contract.

        :raises Invalid: `VARIABLES_INVALID` with a violation per fault, up to 32: `variables.trips[2].city must be a
            string`; `VARIABLES_TOO_LARGE` where nobody can say in that time; as
            :class:`completions.contract.document.Document`
        """
        if contract.variables:
            self._of(contract).check(variables)

    def missing(self, contract: Contract, variables: Mapping[str, Json]) -> list[str]:
        """What variables that are refused lack, such as `user.name`; nothing if they are wrong in other ways only.

        :raises Invalid: as :meth:`check`, for the contract's sake
        """
        return self._of(contract).missing(variables) if contract.variables else []

    def _of(self, contract: Contract) -> Inputs:
        digest = contract.variables_digest
        compiled = self._compiled.get(digest)
        if compiled is None:
            compiled = inputs_of(contract.variables or {})
            self._compiled.put(digest, compiled, size_bytes=compiled.validator.size)
        return compiled


def inputs_of(schema: dict[str, Json]) -> Inputs:
    """What the schema of a contract's variables says of them.

    :raises Invalid: as :class:`completions.contract.document.Document`
    """
    variables = variables_of(schema)
    shape = variables.shapes.at(variables.place) or ()
    names = frozenset(name for alternative in shape for name in (*alternative.properties, *alternative.required))
    named_by_pattern = any(name.startswith("/") and name.endswith("/") for name in names)
    known = None if named_by_pattern else names
    validator = Validator(schema, variables.shapes.document, path=VARIABLES, name="contract")
    parts = schema.get("properties")
    if not isinstance(parts, dict) or schema.keys() & _BESIDE or isinstance(schema.get("additionalProperties"), dict):
        parts = None
    return Inputs(validator, variables, known, parts, _texts(schema))


def _texts(schema: dict[str, Json]) -> frozenset[str] | None:
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not (schema.keys() <= _PLAIN_OBJECT and schema.get("type", "object") == "object"):
        return None
    if not (isinstance(properties, dict) and isinstance(required, list)):
        return None
    for part in properties.values():
        if not isinstance(part, dict) or not part.keys() <= _PLAIN_TEXT or part.get("type", "string") != "string":
            return None
    names = frozenset(name for name in required if isinstance(name, str))
    # What has no property of its own is held against what is said of all others.
    is_open = isinstance(schema.get("additionalProperties", True), bool)
    return names if is_open and names <= properties.keys() else None


def _refuse_hard_ones(compiled: Inputs) -> None:
    effort, parts = compiled.validator.effort, compiled.parts
    if not _is_hard(effort.most(_USUAL_DEPTH)):
        return
    path = VARIABLES
    for name, part in (parts or {}).items():
        if _is_hard(effort.most(_USUAL_DEPTH - 1, part)):
            path = paths.member(VARIABLES, name)
            break
    raise too_large(path, "must not take so much work to check: too many alternatives, constants or repetitions")


def _is_hard(work: Work) -> bool:
    return work.value > _MAX_OWN_LOOKS or work.character > 100 * _MAX_LOOKS_PER_CHARACTER


def _too_large() -> Invalid:
    message = "are too large or too deep to be held against the contract; send fewer or shorter ones"
    return Invalid(f"{VARIABLES} {message}", reason="VARIABLES_TOO_LARGE", violations=(Violation(VARIABLES, message),))


def _refused(faults: list[Violation]) -> Invalid:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Invalid(f"{faults[0].field} {faults[0].message}{more}", reason="VARIABLES_INVALID", violations=faults)
