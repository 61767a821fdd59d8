"""What providers offer, over the rpcs: told to callers, and checked when versions are written."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kit.errors import Invalid, NotFound, Precondition
from services.registry import domain
from tests.services.registry.offering import Offering, http, offering, openai
from turnout.registry.v1 import (
    deployment_pb2,
    deployment_service_pb2,
    prompt_service_pb2,
    provider_pb2,
    version_service_pb2,
)
from turnout.registry.v1 import provider_service_pb2 as pb

CREDENTIAL = "sk-planted-credential-0123456789"
MODEL_FIELD = "deployment.variants[0].completion.new_version.model"


@pytest.fixture
async def checking(database_url: str, bootstrap_keys: Any, start: Any) -> AsyncIterator[Any]:
    """A registry that asks providers, also on this machine."""
    settings = {"TURNOUT_REGISTRY_MODEL_CHECK": "true", "TURNOUT_EGRESS_ALLOW_PRIVATE": "true"}
    async with start(database_url, bootstrap_keys, **settings) as running:
        yield running


@pytest.fixture
async def upstream() -> AsyncIterator[Offering]:
    async with offering() as running:
        yield running


async def add_provider(client: Any, base_url: str, slug: str = "main", **fields: Any) -> Any:
    provider = provider_pb2.Provider(
        **{"kind": provider_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE, "base_url": base_url, **fields}
    )
    request = pb.CreateProviderRequest(parent=f"projects/{client.project}", provider_id=slug, provider=provider)
    return await client.call("CreateProvider", request)


@pytest.fixture
async def shop(checking: Any, upstream: Offering) -> Any:
    """A client of a fresh project whose provider `main` lists `small` and `large`."""
    client = await checking.new_project()
    await add_provider(client, upstream.url, credential=CREDENTIAL)
    return client


def main(client: Any) -> str:
    return f"projects/{client.project}/providers/main"


async def test_models_are_listed_once_a_minute_and_when_a_fresh_list_is_asked_for(
    shop: Any, upstream: Offering
) -> None:
    upstream.then(
        http(200, {"data": [{"id": "b", "context_window": 8192}, {"id": "a", "created": 1715367049}]}), openai("c")
    )

    first = await shop.call("ListProviderModels", pb.ListProviderModelsRequest(name=main(shop)))
    again = await shop.call("ListProviderModels", pb.ListProviderModelsRequest(name=main(shop)))
    fresh = await shop.call("ListProviderModels", pb.ListProviderModelsRequest(name=main(shop), refresh=True))

    assert [model.model for model in first.models] == ["a", "b"]
    assert (first.models[0].create_time.seconds, first.models[1].context_window_tokens) == (1715367049, 8192)
    assert again == first
    assert [model.model for model in fresh.models] == ["c"]
    assert fresh.retrieve_time.ToDatetime() > first.retrieve_time.ToDatetime()
    assert len(upstream.asked) == 2


async def test_a_new_credential_or_address_is_used_at_once(shop: Any, upstream: Offering) -> None:
    upstream.then(http(401, {}), openai("small"))
    checked = await shop.call("CheckProvider", pb.CheckProviderRequest(name=main(shop)))
    update = pb.UpdateProviderRequest(provider=provider_pb2.Provider(name=main(shop), credential="sk-new"))
    await shop.call("UpdateProvider", update)
    listed = await shop.call("ListProviderModels", pb.ListProviderModelsRequest(name=main(shop)))

    assert (checked.ok, checked.reason) == (False, "CREDENTIAL_REFUSED")
    assert [model.model for model in listed.models] == ["small"]
    assert upstream.asked[-1][1]["authorization"] == "Bearer sk-new"


async def test_a_check_says_how_it_went_and_asks_every_time(shop: Any, upstream: Offering) -> None:
    first = await shop.call("CheckProvider", pb.CheckProviderRequest(name=main(shop)))
    upstream.then(http(500, {"error": CREDENTIAL}))
    second = await shop.call("CheckProvider", pb.CheckProviderRequest(name=main(shop)))

    assert (first.ok, first.reason, first.sentence, first.model_count) == (True, "", "", 2)
    assert 0 < first.latency_us < 5_000_000
    assert (second.ok, second.reason, second.model_count) == (False, "PROVIDER_ERROR", 0)
    assert "500" in second.sentence
    assert CREDENTIAL not in second.sentence


async def test_a_list_that_cannot_be_read_is_a_failure_that_says_why(shop: Any) -> None:
    await add_provider(shop, "http://127.0.0.1:1", "gone")

    error = await shop.fails(
        "ListProviderModels", pb.ListProviderModelsRequest(name=f"projects/{shop.project}/providers/gone")
    )
    none = await shop.fails(
        "ListProviderModels", pb.ListProviderModelsRequest(name=f"projects/{shop.project}/providers/none")
    )

    assert isinstance(error, Precondition)
    assert (error.reason, error.metadata["cause"]) == ("PROVIDER_CHECK_FAILED", "PROVIDER_UNREACHABLE")
    assert isinstance(none, NotFound)
    assert none.reason == "PROVIDER_NOT_FOUND"


async def test_the_kinds_have_their_own_addresses(shop: Any, registry: Any) -> None:
    anthropic = await add_provider(shop, "", "claude", kind=provider_pb2.PROVIDER_KIND_ANTHROPIC)
    ollama = await add_provider(shop, "", "ollama", kind=provider_pb2.PROVIDER_KIND_OLLAMA)

    assert (anthropic.base_url, ollama.base_url) == ("https://api.anthropic.com", "http://localhost:11434")


async def test_ollama_on_this_machine_needs_the_operators_setting_which_is_named(registry: Any) -> None:
    client = await registry.new_project()
    request = pb.CreateProviderRequest(
        parent=f"projects/{client.project}",
        provider_id="ollama",
        provider=provider_pb2.Provider(kind=provider_pb2.PROVIDER_KIND_OLLAMA),
    )

    error = await client.fails("CreateProvider", request)

    assert isinstance(error, Invalid)
    assert (error.reason, error.violations[0].field) == ("EGRESS_URL_INVALID", "provider.base_url")
    assert "TURNOUT_EGRESS_ALLOW_PRIVATE=true" in error.message
    request.provider.base_url = "gopher://localhost"
    assert "TURNOUT" not in (await client.fails("CreateProvider", request)).message


async def test_a_model_that_the_provider_lists_is_taken_without_a_word(
    shop: Any, upstream: Offering, deployment_request: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A", "B", "C")))

    assert not made.warnings
    assert len(upstream.asked) == 1


async def test_an_unknown_model_is_refused_with_its_field_and_the_nearest_names(
    checking: Any, shop: Any, upstream: Offering, deployment_request: Any, new_version: Any, state_of: Any
) -> None:
    upstream.then(openai("gpt-4o", "gpt-4o-mini", "whisper-1"))
    request = deployment_request(shop.project)
    request.deployment.variants[0].completion.new_version.model = "gpt4o"
    before = await state_of(checking.url)

    error = await shop.fails("CreateDeployment", request)

    assert isinstance(error, Invalid)
    assert (error.reason, [violation.field for violation in error.violations]) == ("MODEL_UNKNOWN", [MODEL_FIELD])
    assert "'gpt-4o', 'gpt-4o-mini'" in error.message
    assert "whisper" not in error.message
    assert "skip_model_check" in error.message
    assert await state_of(checking.url) == before
    request.skip_model_check = True
    made = await shop.call("CreateDeployment", request)
    assert not made.warnings


async def test_every_unknown_model_of_a_request_is_named(shop: Any, deployment_request: Any) -> None:
    request = deployment_request(shop.project, "helper", ("A", "B", "C"))
    for index in (0, 2):
        request.deployment.variants[index].completion.new_version.model = f"nope-{index}"

    error = await shop.fails("CreateDeployment", request)

    assert [violation.field for violation in error.violations] == [MODEL_FIELD, MODEL_FIELD.replace("[0]", "[2]")]


async def test_every_write_of_a_version_is_checked_and_may_skip_it(
    shop: Any, deployment_request: Any, new_version: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))

    def unknown(text: str) -> Any:
        version = new_version(f"{text} {{{{ name }}}}")
        version.model = "smal"
        return version

    put = version_service_pb2.PutVersionRequest(parent=f"projects/{shop.project}", version=unknown("A"))
    create = deployment_service_pb2.CreateVariantRequest(parent=made.name)
    create.variant.completion.new_version.CopyFrom(unknown("B"))
    update = deployment_service_pb2.UpdateVariantRequest(variant=deployment_pb2.Variant(name=made.variants[0].name))
    update.variant.completion.new_version.CopyFrom(unknown("C"))
    for rpc, request, field in (
        ("PutVersion", put, "version.model"),
        ("CreateVariant", create, "variant.completion.new_version.model"),
        ("UpdateVariant", update, "variant.completion.new_version.model"),
    ):
        for is_dry in (False, True):
            request.validate_only = is_dry
            error = await shop.fails(rpc, request)
            assert (error.reason, error.violations[0].field) == ("MODEL_UNKNOWN", field), rpc
        request.validate_only, request.skip_model_check = False, True
        assert not (await shop.call(rpc, request)).warnings, rpc


async def test_a_version_that_is_stored_is_not_checked_again(
    shop: Any, upstream: Offering, deployment_request: Any, new_version: Any
) -> None:
    await shop.call("CreateDeployment", deployment_request(shop.project))
    upstream.then(openai("other"))
    await shop.call("ListProviderModels", pb.ListProviderModelsRequest(name=main(shop), refresh=True))

    again = await shop.call("CreateDeployment", deployment_request(shop.project, "again"))

    assert not again.warnings


async def test_a_stored_version_that_was_made_from_a_prompt_is_not_checked_again(shop: Any, upstream: Offering) -> None:
    prompt = prompt_service_pb2.CreatePromptRequest(parent=f"projects/{shop.project}", prompt_id="welcome")
    prompt.prompt.messages.add(role=3, content="Hello {{ name }}")
    await shop.call("CreatePrompt", prompt)
    request = deployment_service_pb2.CreateDeploymentRequest(parent=f"projects/{shop.project}", deployment_id="helper")
    request.deployment.kind = deployment_pb2.DEPLOYMENT_KIND_COMPLETION
    completion = request.deployment.variants.add().completion
    completion.prompt = f"projects/{shop.project}/prompts/welcome@1"
    completion.new_version.provider, completion.new_version.model = "main", "small"
    await shop.call("CreateDeployment", request)
    upstream.then(openai("other"))
    await shop.call("ListProviderModels", pb.ListProviderModelsRequest(name=main(shop), refresh=True))

    request.deployment_id = "again"
    assert not (await shop.call("CreateDeployment", request)).warnings
    request.deployment_id = "third"
    request.deployment.variants[0].completion.new_version.model = "large"
    assert (await shop.fails("CreateDeployment", request)).reason == "MODEL_UNKNOWN"


async def test_a_repeat_asks_no_provider_again(
    shop: Any, upstream: Offering, deployment_request: Any, new_version: Any
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    request = deployment_service_pb2.CreateVariantRequest(parent=made.name, request_id=str(uuid.uuid4()))
    request.variant.completion.version = made.variants[0].completion.version
    request.variant.completion.fallbacks.add(provider="main", model="large")
    # What is not stored is checked whenever it is asked for: a dry run stores nothing.
    first = await shop.call("CreateVariant", request)
    deleted = deployment_service_pb2.DeleteVariantRequest(name=first.name)
    await shop.call("DeleteVariant", deleted)
    upstream.then(openai("other"))
    await shop.call("ListProviderModels", pb.ListProviderModelsRequest(name=main(shop), refresh=True))

    assert (await shop.call("CreateVariant", request)).uid == first.uid
    request.request_id = str(uuid.uuid4())
    assert (await shop.fails("CreateVariant", request)).reason == "MODEL_UNKNOWN"


async def test_the_nearest_names_are_looked_for_a_few_times_whatever_is_asked(
    shop: Any, deployment_request: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []

    def nearest(model: str, models: Any) -> tuple[str, ...]:
        looked.append(model)
        return ("near",)

    monkeypatch.setattr(domain, "nearest", nearest)
    request = deployment_request(shop.project, "helper", tuple(f"text {number}" for number in range(12)))
    for index, variant in enumerate(request.deployment.variants):
        variant.completion.new_version.model = f"nope-{index // 2}"

    error = await shop.fails("CreateDeployment", request)

    assert looked == ["nope-0", "nope-1", "nope-2"]
    assert len(error.violations) == 12
    assert ["'near'" in each.message for each in error.violations] == [True] * 6 + [False] * 6


async def test_a_list_that_cannot_be_read_is_a_warning_and_the_write_is_done(
    shop: Any, upstream: Offering, deployment_request: Any, new_version: Any
) -> None:
    upstream.then(http(503, {"error": CREDENTIAL}))

    made = await shop.call("CreateDeployment", deployment_request(shop.project, "helper", ("A", "B")))
    put = await shop.call(
        "PutVersion",
        version_service_pb2.PutVersionRequest(parent=f"projects/{shop.project}", version=new_version("C")),
    )
    variant = deployment_pb2.Variant()
    variant.completion.new_version.CopyFrom(new_version("D"))
    added = await shop.call(
        "CreateVariant", deployment_service_pb2.CreateVariantRequest(parent=made.name, variant=variant)
    )

    for answer in (made, put, added):
        assert len(answer.warnings) == 1
        assert "'small' was not checked" in answer.warnings[0]
        assert "HTTP 503" in answer.warnings[0]
        assert "(PROVIDER_ERROR)" in answer.warnings[0]
        assert CREDENTIAL not in answer.warnings[0]
    got = await shop.call("GetDeployment", deployment_service_pb2.GetDeploymentRequest(name=made.name))
    assert (len(got.variants), list(got.warnings)) == (3, [])
    assert len(upstream.asked) == 1


async def test_a_provider_that_never_answers_holds_up_no_other_writer(
    checking: Any, shop: Any, upstream: Offering, deployment_request: Any
) -> None:
    other = await checking.new_project()
    upstream.gate.clear()
    waiting = asyncio.create_task(shop.call("CreateDeployment", deployment_request(shop.project)))
    async with asyncio.timeout(10):
        while not upstream.asked:
            await asyncio.sleep(0.001)

    await asyncio.wait_for(add_provider(other, "http://127.0.0.1:1"), 2)
    assert not waiting.done()
    upstream.gate.set()

    assert not (await waiting).warnings


async def test_a_write_with_little_time_is_done_with_a_warning(
    shop: Any, upstream: Offering, deployment_request: Any
) -> None:
    upstream.gate.clear()
    request = deployment_request(shop.project)

    made = await shop.rpcs["CreateDeployment"](request, metadata=shop.metadata, timeout=2)

    assert "before the call's deadline" in made.warnings[0]


async def test_a_repeat_is_answered_though_the_model_is_gone(
    shop: Any, upstream: Offering, deployment_request: Any
) -> None:
    request = deployment_request(shop.project)
    request.request_id = str(uuid.uuid4())
    made = await shop.call("CreateDeployment", request)
    upstream.then(openai("other"))
    await shop.call("ListProviderModels", pb.ListProviderModelsRequest(name=main(shop), refresh=True))

    again = await shop.call("CreateDeployment", request)

    assert again.uid == made.uid


async def test_the_operator_can_turn_the_check_off(registry: Any, upstream: Offering, deployment_request: Any) -> None:
    client = await registry.new_project()
    await add_provider(client, "https://127-0-0-1.example", kind=provider_pb2.PROVIDER_KIND_OPENAI)

    made = await client.call("CreateDeployment", deployment_request(client.project))

    assert not made.warnings


async def test_the_credential_is_in_no_log_and_no_answer(
    shop: Any, upstream: Offering, deployment_request: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    answers = []
    for status in (401, 500, 200):
        upstream.then(http(status, {"data": [{"id": f"\n{CREDENTIAL}"}]}))
        answers.append(await shop.call("CheckProvider", pb.CheckProviderRequest(name=main(shop))))
        request = pb.ListProviderModelsRequest(name=main(shop), refresh=True)
        answers.append(await shop.fails("ListProviderModels", request))
    answers.append(await shop.call("CreateDeployment", deployment_request(shop.project)))

    assert upstream.asked[0][1]["authorization"] == f"Bearer {CREDENTIAL}"
    logged = [record.getMessage() + repr(record.__dict__) for record in caplog.records]
    for text in (*map(str, answers), *logged):
        assert CREDENTIAL not in text
