from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson
import pytest

from completions.contract import InputCheck, contract_of
from kit.errors import Invalid
from services.registry import domain
from services.registry.application import compatibility, configurations
from services.registry.convert import catalog
from services.registry.convert.versions import catalog_version
from services.registry.domain import contracts
from tests.services.registry.offering import Offering, offering
from turnout.registry.v1 import (
    deployment_pb2,
    deployment_service_pb2,
    prompt_service_pb2,
    provider_pb2,
    provider_service_pb2,
    version_pb2,
)
from turnout.registry.v1 import version_service_pb2 as pb


def rich() -> version_pb2.Version:
    version = version_pb2.Version(
        provider="main",
        model="large",
        tools_json='[{"type":"function","function":{"name":"f","parameters":{"z":1,"a":9007199254740993}}}]',
        tool_choice_json='"auto"',
        response_format_json='{"type":"json_object"}',
        variables_schema_json='{"properties":{"name":{"type":"string"}}}',
    )
    version.messages.add(role=1, content="You are {{ name }}.")
    message = version.messages.add(role=3, name="someone")
    message.parts.add(text="Look at {{ thing.colour }}")
    message.parts.add().image.url = "https://example.com/{{ id }}.png"
    message.parts[1].image.detail = "low"
    answer = version.messages.add(role=4)
    answer.tool_calls.add(id="call_1", tool="f", arguments_json="{}")
    version.messages.add(role=5, content="42", tool_call_id="call_1")
    parameters = version.parameters
    parameters.temperature, parameters.top_p, parameters.top_k, parameters.max_output_tokens = 0, 1, 4, 100
    parameters.presence_penalty, parameters.frequency_penalty, parameters.seed = -1, 0.5, -(1 << 62)
    parameters.parallel_tool_calls, parameters.reasoning_effort = False, "low"
    parameters.stop.extend(["a", "b"])
    parameters.extra_json = '{"b":1,"a":null}'
    return version


async def put(client: Any, version: version_pb2.Version, **fields: Any) -> Any:
    request = pb.PutVersionRequest(parent=f"projects/{client.project}", version=version, **fields)
    return await client.call("PutVersion", request)


def timeless(version: version_pb2.Version) -> version_pb2.Version:
    """Without the time that a put makes new."""
    copy = version_pb2.Version()
    copy.CopyFrom(version)
    copy.ClearField("expire_time")
    return copy


async def test_everything_that_is_put_comes_back_and_putting_what_came_back_is_the_same_version(shop: Any) -> None:
    made = await put(shop, rich())
    got = await shop.call("GetVersion", pb.GetVersionRequest(name=made.name))

    assert got == made
    assert timeless(await put(shop, got)) == timeless(made)
    given = rich()
    for field in ("messages", "parameters", "tools_json", "tool_choice_json", "response_format_json", "model"):
        assert getattr(got, field) == getattr(given, field), field
    schema = orjson.loads(got.variables_schema_json)
    assert sorted(schema["properties"]) == ["id", "name", "thing"]
    assert schema["properties"]["name"] == {"type": "string"}


async def test_a_put_of_the_same_content_changes_nothing(registry: Any, shop: Any, state_of: Any) -> None:
    made = await put(shop, rich())
    sequence, before = shop.sequence, await state_of(registry.url)
    provider = await shop.call(
        "GetProvider", provider_service_pb2.GetProviderRequest(name=f"projects/{shop.project}/providers/main")
    )
    by_uid = rich()
    by_uid.provider = provider.uid

    assert timeless(await put(shop, rich())) == timeless(await put(shop, by_uid)) == timeless(made)
    assert shop.sequence == sequence
    after = await state_of(registry.url)
    assert [{**row, "seen_at": None} for row in after.pop("versions")] == [
        {**row, "seen_at": None} for row in before.pop("versions")
    ]
    assert after == before


async def test_equal_content_in_two_projects_is_two_versions_of_one_uid(registry: Any, shop: Any) -> None:
    other = await registry.new_project()
    request = provider_service_pb2.CreateProviderRequest(parent=f"projects/{other.project}", provider_id="main")
    request.provider.kind = provider_pb2.PROVIDER_KIND_OPENAI
    await other.call("CreateProvider", request)

    one, two = await put(shop, rich()), await put(other, rich())

    assert one.uid == two.uid
    assert one.name != two.name


async def test_an_unused_version_is_not_in_the_catalog_but_takes_a_sequence(registry: Any, shop: Any) -> None:
    before = shop.sequence
    made = await put(shop, rich())

    assert shop.sequence > before
    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    project = view.project_named(shop.project)
    assert project is not None
    assert view.version(project.uid, made.uid) is None


async def test_a_dry_run_answers_the_id_and_writes_nothing(registry: Any, shop: Any, state_of: Any) -> None:
    before = await state_of(registry.url)
    dry = await put(shop, rich(), validate_only=True)

    assert await state_of(registry.url) == before
    assert dry.uid == (await put(shop, rich())).uid


async def test_an_unknown_provider_is_a_violation(shop: Any) -> None:
    version = rich()
    version.provider = "nowhere"

    error = await shop.fails("PutVersion", pb.PutVersionRequest(parent=f"projects/{shop.project}", version=version))

    assert isinstance(error, Invalid)
    assert (error.reason, error.violations[0].field) == ("PROVIDER_NOT_FOUND", "version.provider")


async def test_a_version_too_large_for_every_services_memory_is_refused(shop: Any) -> None:
    version = rich()
    for field in ("tools_json", "response_format_json", "variables_schema_json"):
        text = "x" * 900_000
        described = f'{{"type":"x","description":"{text}"}}' if field == "tools_json" else f'{{"description":"{text}"}}'
        setattr(version, field, f"[{described}]" if field == "tools_json" else described)

    error = await shop.fails("PutVersion", pb.PutVersionRequest(parent=f"projects/{shop.project}", version=version))

    assert (error.reason, error.violations[0].field) == ("VERSION_TOO_LARGE", "version")


async def test_faults_in_several_places_are_all_named_as_the_request_names_them(shop: Any) -> None:
    version = rich()
    version.tools_json, version.parameters.extra_json = r'["\u0000"]', r'{"a":"\u0000"}'
    version.messages[2].tool_calls[0].tool = "f"

    error = await shop.fails("PutVersion", pb.PutVersionRequest(parent=f"projects/{shop.project}", version=version))

    fields = {violation.field for violation in error.violations}
    assert fields == {"version.tools_json[0]", "version.parameters.extra_json.a"}


async def test_a_page_holds_fewer_where_versions_are_long(shop: Any, new_version: Any) -> None:
    put = []
    for index in range(5):
        version = new_version(f"{index} {'x' * 900_000}")
        put.append(
            await shop.call("PutVersion", pb.PutVersionRequest(parent=f"projects/{shop.project}", version=version))
        )
    seen, token, pages = [], "", 0
    while token or not pages:
        request = pb.ListVersionsRequest(parent=f"projects/{shop.project}", page_token=token)
        page = await shop.call("ListVersions", request)
        assert page.ByteSize() < 3 << 20
        seen += [each.name for each in page.versions]
        token, pages = page.next_page_token, pages + 1
    assert (seen, pages) == ([each.name for each in put], 2)


@pytest.fixture
async def offered_models() -> AsyncIterator[Offering]:
    """A provider that lists `small` and `large`."""
    async with offering() as provider:
        yield provider


@pytest.fixture
def on_the_loop(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """What took long, by name, and whether any of it ran on the event loop."""
    seen: dict[str, bool] = {}

    def note(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def noted(*args: Any, **named: Any) -> Any:
            is_loop = threading.current_thread() is threading.main_thread()
            seen[name] = is_loop or seen.get(name, False)
            return original(*args, **named)

        monkeypatch.setattr(owner, name, noted)

    for owner, name in (
        (configurations, "validate"),
        (configurations, "contract_of"),
        (configurations, "version_id"),
        (compatibility, "compare"),
        (domain, "compare_for_alias"),
        (contracts, "contract_of"),
        (contracts, "moved_contract"),
        (InputCheck, "prepare"),
    ):
        note(owner, name)
    return seen


async def test_what_takes_long_is_judged_in_a_thread(
    own_database: str,
    new_keys: Any,
    start: Any,
    offered_models: Any,
    new_version: Any,
    deployment_request: Any,
    on_the_loop: dict[str, bool],
) -> None:
    """Calls of others wait for the event loop."""
    settings = {"TURNOUT_REGISTRY_MODEL_CHECK": "true", "TURNOUT_EGRESS_ALLOW_PRIVATE": "true"}
    async with start(own_database, new_keys(), **settings) as registry:
        shop = await registry.new_project()
        provider = provider_service_pb2.CreateProviderRequest(parent=f"projects/{shop.project}", provider_id="main")
        provider.provider.kind = provider_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE
        provider.provider.base_url = f"{offered_models.url}/v1"
        await shop.call("CreateProvider", provider)
        parent = f"projects/{shop.project}"
        made = await shop.call("CreateDeployment", deployment_request(shop.project))
        await shop.call("PutVersion", pb.PutVersionRequest(parent=parent, version=new_version("another")))
        prompt = prompt_service_pb2.CreatePromptRequest(parent=parent, prompt_id="welcome")
        prompt.prompt.messages.add(role=3, content="Hello {{ name }}, dear")
        await shop.call("CreatePrompt", prompt)
        for is_draft in (False, True):
            variant = deployment_service_pb2.CreateVariantRequest(parent=made.name, draft=is_draft)
            variant.variant.completion.new_version.CopyFrom(new_version("{{ name }} B"))
            await shop.call("CreateVariant", variant)
        del variant.variant.completion.new_version.messages[:]
        variant.variant.completion.prompt, variant.draft = "welcome", False
        await shop.call("CreateVariant", variant)
        back = deployment_service_pb2.RollbackDeploymentRequest(name=made.name, revision="1.0")
        await shop.call("RollbackDeployment", back)
        alias = deployment_service_pb2.SetAliasRequest(name=made.name, alias="beta", revision="2.0")
        await shop.call("SetAlias", alias)
        check, none = deployment_service_pb2.CheckCompatibilityRequest, deployment_pb2.Contract()
        await shop.call("CheckCompatibility", check(name=made.name, revision="1.0"))
        await shop.call("CheckCompatibility", check(name=parent, before=none, after=none))
        connection = await asyncpg.connect(own_database.replace("+asyncpg", ""))
        try:
            # As an alias of before there were contracts.
            await connection.execute("UPDATE registry.aliases SET contract = NULL")
        finally:
            await connection.close()
        await shop.call("GetCodeSnippets", deployment_service_pb2.GetCodeSnippetsRequest(name=made.name))

    assert {name for name, is_loop in on_the_loop.items() if is_loop} == set()
    assert on_the_loop.keys() == {
        *("validate", "contract_of", "version_id", "compare", "compare_for_alias", "moved_contract", "prepare")
    }


@pytest.mark.parametrize("write", ["CreateDeployment", "CreateVariant"])
async def test_a_contract_that_takes_long_keeps_no_other_writer_waiting(
    registry: Any,
    shop: Any,
    new_version: Any,
    deployment_request: Any,
    monkeypatch: pytest.MonkeyPatch,
    write: str,
) -> None:
    request = deployment_request(shop.project)
    if write == "CreateVariant":
        made = await shop.call("CreateDeployment", request)
        request = deployment_service_pb2.CreateVariantRequest(parent=made.name)
        request.variant.completion.new_version.CopyFrom(new_version("{{ name }} B"))
    original, begun, may_end = contract_of, threading.Event(), threading.Event()

    def slow(variants: Any, **bounds: Any) -> Any:
        begun.set()
        assert may_end.wait(20)
        return original(variants, **bounds)

    monkeypatch.setattr(contracts, "contract_of", slow)
    writing = asyncio.create_task(shop.call(write, request))
    try:
        assert await asyncio.to_thread(begun.wait, 10)
        prompt = prompt_service_pb2.CreatePromptRequest(parent=f"projects/{shop.project}", prompt_id="meanwhile")
        prompt.prompt.messages.add(role=3, content="Hello")
        await asyncio.wait_for(registry.platform.call("CreatePrompt", prompt), 4)
        assert not writing.done()
    finally:
        may_end.set()
    answer = await writing

    assert answer.name.startswith(f"projects/{shop.project}/deployments/helper")
    deployment = await shop.call(
        "GetDeployment",
        deployment_service_pb2.GetDeploymentRequest(name=f"projects/{shop.project}/deployments/helper"),
    )
    assert len(deployment.variants) == (2 if write == "CreateVariant" else 1)
    assert deployment.revision == ("2.0" if write == "CreateVariant" else "1.0")


async def test_what_the_catalog_has_of_versions_is_not_packed_again(
    shop: Any, deployment_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed: list[str] = []
    original = catalog_version

    def noted(version: Any) -> Any:
        packed.append(version.uid)
        return original(version)

    monkeypatch.setattr(catalog, "catalog_version", noted)
    made = await shop.call(
        "CreateDeployment", deployment_request(shop.project, "helper", ("{{ name }} A", "{{ name }}"))
    )
    assert len(packed) == 2
    variant = deployment_pb2.Variant(name=made.variants[1].name, weight=30)
    await shop.call("UpdateVariant", deployment_service_pb2.UpdateVariantRequest(variant=variant))

    assert len(packed) == 2
