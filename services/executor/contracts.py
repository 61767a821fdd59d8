"""What a call's variables are held against before it is routed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from catalog.targets import Target
from completions.contract import Contract, InputCheck
from completions.template import missing_variables
from kit import json
from kit.json import Json

_MAX_SCHEMA_BYTES: Final = 1 << 20
"""The registry stores shorter ones only."""


class Contracts:
    """Checks variables against the contracts of aliases, each of which is read once while it is in use.

    :param limit: how many are kept
    """

    def __init__(self, limit: int = 512) -> None:
        self._limit = limit
        self._inputs = InputCheck(max_validators=limit)
        self._kept: OrderedDict[str, Contract] = OrderedDict()

    def check(self, target: Target, variables: Mapping[str, Json]) -> None:
        """Whether a call may go to any variant, whichever is drawn. Variables that the contract does not know are
        ignored; an alias without a contract takes anything.

        :raises Invalid: `MISSING_VARIABLES`, naming all of them; `VARIABLES_INVALID`, with each path
        """
        held = target.contract
        if held is None or not held.variables_schema_json:
            return
        contract = self._contract(held.variables_schema_json)
        required = (contract.variables or {}).get("required")
        if isinstance(required, list):
            missing = [name for name in required if isinstance(name, str) and name not in variables]
            if missing:
                raise missing_variables(missing)
        self._inputs.check(contract, variables)

    def _contract(self, schema: str) -> Contract:
        found = self._kept.get(schema)
        if found is None:
            found = Contract(json.parse_object(schema, field="contract", max_bytes=_MAX_SCHEMA_BYTES))
            self._kept[schema] = found
            if len(self._kept) > self._limit:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end(schema)
        return found
