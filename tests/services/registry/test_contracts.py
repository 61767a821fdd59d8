from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from completions.contract import Contract, InputCheck
from kit.errors import Invalid, Precondition
from services.registry.application import contracts
from turnout.registry.v1 import deployment_pb2, version_pb2, version_service_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb


@pytest.fixture
async def made(shop: Any, deployment_request: Any) -> Any:
    """A deployment whose callers send `name`."""
    return await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("Hello {{ name }}",)))


def replaced(made: Any, version: version_pb2.Version, **fields: Any) -> Any:
    """The first variant with another version."""
    request = pb.UpdateVariantRequest(variant=deployment_pb2.Variant(name=made.variants[0].name), **fields)
    request.variant.completion.new_version.CopyFrom(version)
    return request


def added(made: Any, version: version_pb2.Version, **fields: Any) -> Any:
    request = pb.CreateVariantRequest(parent=made.name, **fields)
    request.variant.completion.new_version.CopyFrom(version)
    return request


def contract_of(alias: Any) -> Any:
    return json.loads(alias.contract.variables_schema_json)


async def read(shop: Any, made: Any) -> Any:
    return await shop.call("GetDeployment", pb.GetDeploymentRequest(name=made.name))


async def test_an_alias_holds_what_the_callers_of_its_first_revision_send(shop: Any, registry: Any, made: Any) -> None:
    [live] = made.aliases

    assert contract_of(live) == {"type": "object", "properties": {"name": {}}, "required": ["name"]}
    await registry.catalog.reach(shop.sequence)
    held = registry.catalog.usable_view().deployment(made.uid).contracts["live"]
    assert json.loads(held.variables_schema_json) == contract_of(live)
    assert held.response_format_json == ""


@pytest.mark.parametrize(
    ("text", "path"),
    [("Hello {{ name }} of {{ country }}", "variables.country"), ("Hello {{ name.first }} {{ x }}", "variables.x")],
)
async def test_a_change_that_would_break_callers_is_refused_with_every_path_and_both_sides(
    shop: Any, made: Any, new_version: Any, text: str, path: str
) -> None:
    before = await read(shop, made)

    failure = await shop.fails("UpdateVariant", replaced(made, new_version(text)))

    assert isinstance(failure, Precondition)
    assert failure.reason == "CONTRACT_BROKEN"
    assert path in [each.field for each in failure.violations]
    assert "is new: callers do not send it" in failure.violations[-1].message
    assert await read(shop, made) == before, "nothing changed"


async def test_the_last_user_of_a_variable_goes_only_if_the_contract_is_retained(
    shop: Any, made: Any, new_version: Any
) -> None:
    request = replaced(made, new_version("Hello"))
    failure = await shop.fails("UpdateVariant", request)
    assert (failure.reason, [each.field for each in failure.violations]) == ("CONTRACT_BROKEN", ["variables.name"])
    assert "retain_contract" in failure.message

    request.retain_contract = True
    await shop.call("UpdateVariant", request)
    [live] = (await read(shop, made)).aliases
    assert set(contract_of(live)["properties"]) == {"name"}, "callers may still send it"

    # What was let go before needs no second permission, and may come back.
    await shop.call("UpdateVariant", replaced(made, new_version("Good day")))
    await shop.call("UpdateVariant", replaced(made, new_version("Good day {{ name }}")))


async def test_a_response_format_is_part_of_the_contract(shop: Any, made: Any, new_version: Any) -> None:
    version = new_version()
    version.response_format_json = '{"type": "json_object"}'

    failure = await shop.fails("UpdateVariant", replaced(made, version))

    assert [each.field for each in failure.violations] == ["response_format"]
    assert "text" in failure.violations[0].message


async def test_variants_of_one_deployment_agree_on_types_even_in_drafts(shop: Any, made: Any, new_version: Any) -> None:
    one, other = new_version("{{ name }}!"), new_version("{{ name }}?")
    one.variables_schema_json = '{"type": "object", "properties": {"name": {"type": "string"}}}'
    other.variables_schema_json = '{"type": "object", "properties": {"name": {"type": "integer"}}}'
    await shop.call("CreateVariant", added(made, one))

    for is_draft in (False, True):
        failure = await shop.fails("CreateVariant", added(made, other, draft=is_draft))
        assert isinstance(failure, Invalid)
        assert failure.reason == "CONTRACT_CONFLICT"
        assert [each.field for each in failure.violations] == ["variables.name"]


async def test_what_callers_may_notice_is_told_once(shop: Any, made: Any, new_version: Any) -> None:
    version = new_version("{{ name | d('') }}")
    version.variables_schema_json = json.dumps({"type": "object", "properties": {"name": {"type": "string"}}})

    changed = await shop.call("UpdateVariant", replaced(made, version))
    assert any("variables.name" in each for each in changed.warnings)

    version.messages[0].content += "!"
    again = await shop.call("UpdateVariant", replaced(made, version))
    assert not again.warnings


async def test_a_breaking_change_goes_to_another_alias(shop: Any, made: Any, new_version: Any) -> None:
    await shop.call("SetAlias", pb.SetAliasRequest(name=made.name, alias="next", revision="live"))
    draft = replaced(made, new_version("Hello {{ name }} of {{ country }}"), draft=True)
    await shop.call("UpdateVariant", draft)

    refused = await shop.fails("SetAlias", pb.SetAliasRequest(name=made.name, alias="live", revision="2.0"))
    assert refused.reason == "CONTRACT_BROKEN"
    also = await shop.fails("SetAlias", pb.SetAliasRequest(name=made.name, alias="next", revision="2.0"))
    assert also.reason == "CONTRACT_BROKEN", "an alias that has callers already holds its contract"
    moved = await shop.call("SetAlias", pb.SetAliasRequest(name=made.name, alias="v2", revision="2.0"))

    contracts = {each.alias: set(contract_of(each)["properties"]) for each in moved.aliases}
    assert contracts == {"live": {"name"}, "next": {"name"}, "v2": {"name", "country"}}


async def test_a_deployment_without_variants_promises_nothing_until_it_has_one(
    shop: Any, deployment_request: Any, new_version: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "empty", ()))
    assert not made.aliases[0].HasField("contract")

    await shop.call("CreateVariant", added(made, new_version("{{ x }}")))
    [live] = (await read(shop, made)).aliases
    assert set(contract_of(live)["properties"]) == {"x"}

    [variant] = (await read(shop, made)).variants
    await shop.call("DeleteVariant", pb.DeleteVariantRequest(name=variant.name))
    failure = await shop.fails("CreateVariant", added(made, new_version("{{ y }}")))
    assert failure.reason == "CONTRACT_BROKEN", "callers of x are there still"


async def test_a_rollback_keeps_the_contract_too(shop: Any, made: Any, new_version: Any) -> None:
    await shop.call("UpdateVariant", replaced(made, new_version("Hi"), retain_contract=True))

    back = pb.RollbackDeploymentRequest(name=made.name, revision="1.0")
    assert (await shop.call("RollbackDeployment", back)).revision == "3.0"


async def test_compatibility_of_a_revision_and_an_alias_is_asked_without_a_change(
    shop: Any, made: Any, new_version: Any
) -> None:
    await shop.call("UpdateVariant", replaced(made, new_version("{{ name }} {{ country }}"), draft=True))

    same = await shop.call("CheckCompatibility", pb.CheckCompatibilityRequest(name=made.name, revision="1.0"))
    broken = await shop.call("CheckCompatibility", pb.CheckCompatibilityRequest(name=made.name, revision="2.0"))

    # Nothing says what type a name is, but nothing changes either.
    assert (same.compatibility, list(same.warnings)) == (pb.COMPATIBILITY_EQUAL, [])
    assert broken.compatibility == pb.COMPATIBILITY_DIFFERENT
    assert [(each.path, each.reason, each.before) for each in broken.differences] == [
        ("variables.country", "PROPERTY_ADDED", "absent")
    ]


async def test_compatibility_of_two_contracts_is_asked_without_a_deployment(shop: Any) -> None:
    def schema(**types: str) -> deployment_pb2.Contract:
        properties = {name: {"type": kind} for name, kind in types.items()}
        text = json.dumps({"type": "object", "properties": properties})
        return deployment_pb2.Contract(variables_schema_json=text)

    request = pb.CheckCompatibilityRequest(
        name=f"projects/{shop.project}", before=schema(a="string", b="string"), after=schema(a="integer")
    )
    found = await shop.call("CheckCompatibility", request)

    assert {(each.path, each.reason) for each in found.differences} == {
        ("variables.a", "TYPE_CHANGED"),
        ("variables.b", "PROPERTY_REMOVED"),
    }


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ('{"$ref": "https://example.org/x.json"}', "SCHEMA_REFERENCE_EXTERNAL"),
        ('{"$ref": "#/$defs/none"}', "SCHEMA_REFERENCE_DANGLING"),
        ("[1]", "JSON_NOT_OBJECT"),
        ('{"type": 7}', "SCHEMA_MALFORMED"),
        ("{", "JSON_MALFORMED"),
        ('{"a":' * 10_000 + "1" + "}" * 10_000, "JSON_MALFORMED"),
    ],
)
async def test_schemas_that_cannot_be_judged_are_refused_with_their_side(shop: Any, schema: str, reason: str) -> None:
    request = pb.CheckCompatibilityRequest(
        name=f"projects/{shop.project}", after=deployment_pb2.Contract(variables_schema_json=schema)
    )

    failure = await shop.fails("CheckCompatibility", request)

    assert isinstance(failure, Invalid)
    assert failure.reason == reason
    assert [each.field for each in failure.violations] == ["after.variables_schema_json"]


async def test_recommendations_have_no_contract(shop: Any, model_request: Any, registry: Any) -> None:
    model = await registry.service.call("RegisterModel", model_request(shop))
    request = pb.CreateDeploymentRequest(parent=f"projects/{shop.project}", deployment_id="top")
    request.deployment.kind = deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION
    request.deployment.variants.add().recommendation.model = model.uid
    made = await shop.call("CreateDeployment", request)

    assert not made.aliases[0].HasField("contract")
    failure = await shop.fails("CheckCompatibility", pb.CheckCompatibilityRequest(name=made.name, revision="1.0"))
    assert failure.reason == "CONTRACT_UNDEFINED"


async def test_what_a_call_must_bring_is_what_the_variants_need_now(
    registry: Any, shop: Any, deployment_request: Any, new_version: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("{{ name | d('you') }}",)))

    async def required() -> Any:
        await registry.catalog.reach(shop.sequence)
        held = registry.catalog.usable_view().deployment(made.uid).contracts["live"]
        return json.loads(held.variables_schema_json).get("required")

    assert await required() is None
    needing = await shop.call("CreateVariant", added(made, new_version("{{ name }}")))
    assert any("was optional and is required" in each for each in needing.warnings)
    assert await required() == ["name"], "whichever variant a call gets"
    await shop.call("DeleteVariant", pb.DeleteVariantRequest(name=needing.name))
    assert await required() is None
    await shop.call("UpdateVariant", replaced(made, new_version("Hello {{ name }}")))
    assert await required() == ["name"]
    await shop.call("UpdateVariant", replaced(made, new_version("Hello"), retain_contract=True))
    assert await required() is None, "nobody uses it any more"


@pytest.mark.parametrize(
    ("first", "second", "suits_second"),
    [
        ({"type": "string", "enum": ["q"]}, {"type": "string", "enum": ["r"]}, "r"),
        ({"type": "string", "maxLength": 3}, {"type": "string", "maxLength": 9}, "longer"),
        ({"type": "integer", "minimum": 5}, {"type": "integer"}, 1),
    ],
)
async def test_the_limits_of_a_contract_are_those_of_the_revision_that_is_served(
    shop: Any, deployment_request: Any, new_version: Any, first: Any, second: Any, suits_second: Any
) -> None:
    def limited(limits: Any, text: str) -> Any:
        version = new_version(text)
        version.variables_schema_json = json.dumps({"type": "object", "properties": {"x": limits}})
        return version

    made = await shop.call("CreateDeployment", deployment_request(shop.project, "limits", ()))
    variant = await shop.call("CreateVariant", added(made, limited(first, "{{ x }}")))
    request = pb.UpdateVariantRequest(variant=deployment_pb2.Variant(name=variant.name))
    request.variant.completion.new_version.CopyFrom(limited(second, "{{ x }}!"))
    changed = await shop.call("UpdateVariant", request)

    [live] = (await read(shop, made)).aliases
    held = Contract(contract_of(live))
    InputCheck().check(held, {"x": suits_second})
    assert changed.warnings, "callers may notice"
    await shop.call("RollbackDeployment", pb.RollbackDeploymentRequest(name=made.name, revision="2.0"))
    [live] = (await read(shop, made)).aliases
    assert contract_of(live)["properties"]["x"] == first


async def test_a_type_that_comes_to_be_known_is_one_that_callers_rely_on(
    shop: Any, deployment_request: Any, new_version: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "hotels", ("{{ hotel }}",)))
    [variant] = made.variants

    def to(text: str) -> Any:
        request = pb.UpdateVariantRequest(variant=deployment_pb2.Variant(name=variant.name))
        request.variant.completion.new_version.CopyFrom(new_version(text))
        return request

    changed = await shop.call("UpdateVariant", to("{{ hotel.name }}"))
    failure = await shop.fails("UpdateVariant", to("{% for one in hotel %}{{ one }}{% endfor %}"))
    await shop.call("UpdateVariant", to("{{ hotel }}"))
    again = await shop.fails("UpdateVariant", to("{% for one in hotel %}{{ one }}{% endfor %}"))

    assert any("had no known type and is object" in each for each in changed.warnings)
    assert (failure.reason, [each.field for each in failure.violations]) == ("CONTRACT_BROKEN", ["variables.hotel"])
    assert again.reason == "CONTRACT_BROKEN", "a type that is known is not forgotten"


@pytest.mark.parametrize("name", ["1.0", "9.9", "0.12", "rev_0190f3", "rev_"])
async def test_a_new_alias_is_not_named_like_a_revision(shop: Any, made: Any, name: str) -> None:
    failure = await shop.fails("SetAlias", pb.SetAliasRequest(name=made.name, alias=name, revision="live"))

    assert isinstance(failure, Invalid)
    assert (failure.reason, [each.field for each in failure.violations]) == ("ALIAS_NAME_RESERVED", ["alias"])


async def test_an_alias_of_before_that_is_named_like_a_revision_can_be_moved(
    shop: Any, made: Any, new_version: Any, registry: Any
) -> None:
    await shop.call("SetAlias", pb.SetAliasRequest(name=made.name, alias="beta", revision="live"))
    connection = await asyncpg.connect(registry.url.replace("+asyncpg", ""))
    await connection.execute("UPDATE registry.aliases SET alias = '9.9' WHERE alias = 'beta'")
    await connection.close()
    await shop.call("UpdateVariant", replaced(made, new_version("Hi {{ name }}")))

    moved = await shop.call("SetAlias", pb.SetAliasRequest(name=made.name, alias="9.9", revision="2.0"))

    assert {each.alias: each.revision for each in moved.aliases} == {"9.9": "2.0", "live": "2.0"}
    await shop.call("DeleteAlias", pb.DeleteAliasRequest(name=made.name, alias="9.9"))


@pytest.mark.parametrize("name", ["1", "1.0-beta", "v1.0", "2026.11.22", "revision"])
async def test_other_names_with_numbers_are_aliases(shop: Any, made: Any, name: str) -> None:
    await shop.call("SetAlias", pb.SetAliasRequest(name=made.name, alias=name, revision="live"))


async def test_aliases_are_bounded(shop: Any, made: Any) -> None:
    for number in range(31):
        request = pb.SetAliasRequest(name=made.name, alias=f"a{number}", revision="live")
        await shop.call("SetAlias", request)
    failure = await shop.fails("SetAlias", pb.SetAliasRequest(name=made.name, alias="more", revision="live"))
    assert failure.reason == "TOO_MANY_ALIASES"
    await shop.call("SetAlias", pb.SetAliasRequest(name=made.name, alias="a1", revision="1.0"))


async def test_a_deployment_of_before_contracts_can_be_mended(
    shop: Any, made: Any, new_version: Any, registry: Any
) -> None:
    # As it was stored then: two variants that contradict each other, and no contract.
    parent, other = f"projects/{shop.project}", new_version("{{ name.first }}")
    added_one = await shop.call("CreateVariant", added(made, new_version("{{ name }}!")))
    put = await shop.call(
        "PutVersion", version_service_pb2.PutVersionRequest(parent=f"projects/{shop.project}", version=other)
    )
    typed = new_version("{{ name }}")
    typed.variables_schema_json = '{"type": "object", "properties": {"name": {"type": "string"}}}'
    text = await shop.call("PutVersion", version_service_pb2.PutVersionRequest(parent=parent, version=typed))
    connection = await asyncpg.connect(registry.url.replace("+asyncpg", ""))
    for uid, version in ((added_one.uid, put.uid), (made.variants[0].uid, text.uid)):
        await connection.execute("UPDATE registry.revision_variants SET version = $1 WHERE variant = $2", version, uid)
    await connection.execute("UPDATE registry.aliases SET contract = NULL WHERE deployment = $1", made.uid)
    await connection.close()

    await shop.call("DeleteVariant", pb.DeleteVariantRequest(name=added_one.name))

    [live] = (await read(shop, made)).aliases
    assert contract_of(live)["properties"] == {"name": {"type": "string"}}


class Transactions:
    """A store that begins transactions and counts them; nothing can be asked of these."""

    def __init__(self) -> None:
        self.begun = 0
        self.is_open = False

    @asynccontextmanager
    async def writing(self, *, is_dry: bool = False) -> AsyncIterator[Any]:
        self.begun, self.is_open = self.begun + 1, True
        try:
            yield None
        finally:
            self.is_open = False


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> Transactions:
    """Those of writes that wait for no answer."""
    monkeypatch.setattr(contracts, "_PATIENCE_SECONDS", 0)
    return Transactions()


async def test_a_write_begins_anew_with_the_answer_that_was_worked_out_meanwhile(transactions: Any) -> None:
    asked = 0

    def work_out() -> str:
        nonlocal asked
        asked += 1
        return "answer"

    async def write(_: Any, judge: contracts.Judge) -> str:
        return await judge.answer("question", work_out)

    assert await contracts.write_judged(transactions, write) == "answer"
    assert (transactions.begun, asked) == (2, 1)


async def test_a_write_that_always_finds_another_question_makes_others_wait_in_the_end(transactions: Any) -> None:
    async def write(_: Any, judge: contracts.Judge) -> int:
        return await judge.answer(transactions.begun, lambda: transactions.begun)

    assert await contracts.write_judged(transactions, write) == 3
    assert transactions.begun == 3


async def test_what_cannot_be_is_refused_without_another_transaction(transactions: Any) -> None:
    def work_out() -> str:
        raise Invalid("no", reason="CONTRACT_CONFLICT")

    async def write(_: Any, judge: contracts.Judge) -> str:
        return await judge.answer("question", work_out)

    with pytest.raises(Invalid):
        await contracts.write_judged(transactions, write)
    assert (transactions.begun, transactions.is_open) == (1, False)
