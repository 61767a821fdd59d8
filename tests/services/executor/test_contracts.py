from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest

from catalog.targets import Target
from catalog.view import Contract, Deployment, DeploymentKind, Project, Revision
from kit.errors import Invalid
from services.executor.contracts import Contracts

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}, "note": {}},
    "required": ["city", "days"],
}


def target(schema: dict[str, Any] | None) -> Target:
    held = {} if schema is None else {"live": Contract(json.dumps(schema), "")}
    revision = Revision("rev_1", "1.0", "salt", ())
    deployment = Deployment(
        "dep_1",
        "prj_1",
        "trip",
        DeploymentKind.COMPLETION,
        MappingProxyType({"live": revision}),
        MappingProxyType(held),
    )
    return Target(Project("prj_1", 1, "shop"), deployment, "live", revision)


def test_variables_that_keep_to_the_contract_pass_and_others_beside_them() -> None:
    Contracts().check(target(CITY), {"city": "Paris", "days": 3, "unknown": [1]})


def test_all_that_is_missing_is_named() -> None:
    with pytest.raises(Invalid) as failure:
        Contracts().check(target(CITY), {"note": 1})

    assert failure.value.reason == "MISSING_VARIABLES"
    assert [each.field for each in failure.value.violations] == ["variables.city", "variables.days"]


def test_what_is_missing_within_objects_and_lists_is_named_too() -> None:
    user = {"type": "object", "properties": {"name": {}, "age": {}}, "required": ["name"]}
    trips = {"type": "array", "items": CITY}
    schema = {"type": "object", "properties": {"user": user, "trips": trips, "tone": {}}, "required": ["tone"]}

    with pytest.raises(Invalid) as failure:
        Contracts().check(
            target(schema), {"user": {"age": 1}, "trips": [{"city": "Paris", "days": "three"}, {"days": 1}]}
        )

    assert failure.value.reason == "MISSING_VARIABLES"
    missing = ["variables.tone", "variables.user.name", "variables.trips[1].city"]
    assert [each.field for each in failure.value.violations] == missing


def test_a_wrong_type_is_named_with_its_path() -> None:
    with pytest.raises(Invalid) as failure:
        Contracts().check(target(CITY), {"city": 7, "days": "three"})

    assert failure.value.reason == "VARIABLES_INVALID"
    assert {each.field for each in failure.value.violations} == {"variables.city", "variables.days"}


@pytest.mark.parametrize("held", [None, {}])
def test_an_alias_that_promises_nothing_takes_anything(held: Any) -> None:
    Contracts().check(target(held), {"anything": [None]})


def test_few_contracts_are_kept_and_all_are_checked() -> None:
    contracts = Contracts(max_contracts=2)
    for number in (*range(5), *range(5)):
        schema = {"type": "object", "properties": {f"v{number}": {"type": "string"}}}
        contracts.check(target(schema), {f"v{number}": "x"})
        with pytest.raises(Invalid):
            contracts.check(target(schema), {f"v{number}": 1})
    assert len(contracts) == 2
