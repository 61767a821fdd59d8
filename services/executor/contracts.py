"""What a call's variables are held against before it is routed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from catalog.targets import Target
from completions.contract import Contract, Inputs, compare, inputs_of
from completions.template import missing_variables
from kit import json
from kit.errors import Invalid, Precondition, Violation
from kit.json import Json
from kit.lru import Lru

_MAX_SCHEMA_BYTES: Final = 1 << 20
"""The registry stores shorter ones only."""
_DECLARED: Final = "direct.variables_schema"
_BYTES_PER_CHARACTER: Final = 6
"""Of a schema, with its text: objects take a few times as much."""


class Contracts:
    """Checks variables against the contracts of aliases, each of which is read once while it is in use.

    :param max_contracts: how many are kept
    :param max_bytes: about what they may hold in memory
    """

    def __init__(self, *, max_contracts: int = 512, max_bytes: int = 8 << 20) -> None:
        self._kept: Lru[str, Inputs] = Lru(max_entries=max_contracts, max_bytes=max_bytes)

    def __len__(self) -> int:
        return len(self._kept)

    def check(self, target: Target, variables: Mapping[str, Json]) -> None:
        """Whether a call may go to any variant, whichever is drawn. Variables that the contract does not know are
        ignored; an alias without a contract takes anything.

        :raises Invalid: `MISSING_VARIABLES`, naming up to 32, also within objects and lists, such as `user.name`;
            `VARIABLES_INVALID`, with each path
        """
        held = target.contract
        if held is not None and held.variables_schema_json:
            _check(self._inputs(held.variables_schema_json), variables)

    def check_declared(self, schema: Mapping[str, Json], variables: Mapping[str, Json]) -> None:
        """Whether variables are of the types that a call without a deployment declares itself.

        :raises Invalid: as :meth:`check`; `SCHEMA_…` where the declaration cannot be held against anything
        """
        try:
            _check(self._inputs(json.dump(dict(schema))), variables)
        except Invalid as refusal:
            if not refusal.reason.startswith("SCHEMA_"):
                raise
            faults = [
                Violation(_DECLARED, f"cannot be used: {each.field} {each.message}") for each in refusal.violations
            ]
            words = f"{_DECLARED} {faults[0].message}" if faults else refusal.message
            raise Invalid(words, reason=refusal.reason, violations=faults) from None

    def check_response_format(self, target: Target, response_format: dict[str, Json]) -> None:
        """Whether callers of the alias can take answers in another format than the version's.

        :raises Precondition: `CONTRACT_BROKEN`, with each path
        :raises Invalid: as `completions.contract.compare`, where the format cannot be judged
        """
        held = target.contract
        if held is None:
            return
        text = held.response_format_json
        before = Contract(
            None, json.parse_object(text, field="contract", max_bytes=_MAX_SCHEMA_BYTES) if text else None
        )
        differences = compare(before, Contract(None, response_format)).differences
        if differences:
            raise Precondition(
                f"overrides.{differences[0].sentence}; callers of {target.deployment.slug}:{target.alias} rely on it",
                reason="CONTRACT_BROKEN",
                violations=[Violation(f"overrides.{each.path}", each.sentence) for each in differences],
            )

    def _inputs(self, schema: str) -> Inputs:
        found = self._kept.get(schema)
        if found is None:
            found = inputs_of(json.parse_object(schema, field="contract", max_bytes=_MAX_SCHEMA_BYTES))
            self._kept.put(schema, found, size_bytes=_BYTES_PER_CHARACTER * len(schema) + found.validator.size)
        return found


def _check(inputs: Inputs, variables: Mapping[str, Json]) -> None:
    try:
        inputs.check(variables)
    except Invalid as refusal:
        # What is missing explains most of what is wrong, and the caller learns all of it at once.
        missing = inputs.missing(variables) if refusal.reason == "VARIABLES_INVALID" else []
        if missing:
            raise missing_variables(missing) from None
        raise
