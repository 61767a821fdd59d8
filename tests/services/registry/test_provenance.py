"""What versions are made from, over gRPC: prompts behind variants."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalog.configurations import version_from_proto, version_to_proto
from completions.template import CompiledMessages
from kit.errors import Invalid, Precondition
from turnout.registry.v1 import (
    catalog_service_pb2,
    deployment_pb2,
    prompt_service_pb2,
    revision_pb2,
    version_service_pb2,
)
from turnout.registry.v1 import deployment_service_pb2 as pb

Archive = prompt_service_pb2.ArchivePromptRequest


async def new_prompt(client: Any, *texts: str, slug: str = "welcome", schema: str = "") -> Any:
    """A prompt with a number for each text."""
    first, *others = texts or ("Hello {{ name }}",)
    request = prompt_service_pb2.CreatePromptRequest(parent=f"projects/{client.project}", prompt_id=slug)
    request.prompt.messages.add(role=3, content=first)
    request.prompt.variables_schema_json = schema
    made = await client.call("CreatePrompt", request)
    for text in others:
        made = await said(client, made, text)
    return made


async def said(client: Any, prompt: Any, text: str) -> Any:
    """The prompt after another number."""
    request = prompt_service_pb2.UpdatePromptRequest()
    request.prompt.name = prompt.name
    request.prompt.messages.add(role=3, content=text)
    return await client.call("UpdatePrompt", request)


def made_from(project: str, *prompts: str, slug: str = "helper") -> Any:
    """A request for a deployment with a variant for each prompt."""
    request = pb.CreateDeploymentRequest(parent=f"projects/{project}", deployment_id=slug)
    request.deployment.kind = deployment_pb2.DEPLOYMENT_KIND_COMPLETION
    for prompt in prompts:
        completion = request.deployment.variants.add().completion
        completion.prompt = prompt
        completion.new_version.provider, completion.new_version.model = "main", "small"
    return request


def update(name: str, **completion: Any) -> pb.UpdateVariantRequest:
    wanted = deployment_pb2.CompletionVariant(**completion)
    return pb.UpdateVariantRequest(variant=deployment_pb2.Variant(name=name, completion=wanted))


async def version_of(client: Any, variant: Any) -> Any:
    name = f"projects/{client.project}/versions/{variant.completion.version}"
    return await client.call("GetVersion", version_service_pb2.GetVersionRequest(name=name))


async def test_a_variant_is_made_from_a_prompt_by_every_way_to_name_it(
    registry: Any, shop: Any, new_version: Any
) -> None:
    prompt = await new_prompt(shop, "Hello {{ name }}", "Bye {{ name }}")
    names = ("welcome", "welcome@1", f"{prompt.uid}@2", prompt.name, f"{prompt.name}@1")
    made = await shop.call("CreateDeployment", made_from(shop.project, *names))

    labels = ["welcome@2", "welcome@1", "welcome@2", "welcome@2", "welcome@1"]
    assert [each.completion.prompt for each in made.variants] == labels
    texts = [(await version_of(shop, each)).messages[0].content for each in made.variants]
    assert texts == ["Bye {{ name }}", "Hello {{ name }}", "Bye {{ name }}", "Bye {{ name }}", "Hello {{ name }}"]
    assert await shop.call("GetDeployment", pb.GetDeploymentRequest(name=made.name)) == made
    revision = await shop.call("GetRevision", pb.GetRevisionRequest(name=f"{made.name}/revisions/1.0"))
    assert [each.completion.prompt for each in revision.variants] == labels


async def test_a_version_is_the_same_whether_made_from_a_prompt_or_written_out(shop: Any) -> None:
    schema = '{"properties":{"name":{"type":"string"}}}'
    prompt = await new_prompt(shop, "Hello {{ name }} of {{ place.town }}", schema=schema)
    made = await shop.call("CreateDeployment", made_from(shop.project, "welcome"))
    from_prompt = await version_of(shop, made.variants[0])

    assert from_prompt.variables_schema_json == prompt.variables_schema_json
    written = version_service_pb2.PutVersionRequest(parent=f"projects/{shop.project}")
    written.version.provider, written.version.model = "main", "small"
    written.version.messages.extend(prompt.messages)
    written.version.variables_schema_json = schema
    assert (await shop.call("PutVersion", written)).uid == from_prompt.uid


async def test_editing_a_prompt_changes_nothing_that_is_served(registry: Any, shop: Any, state_of: Any) -> None:
    prompt = await new_prompt(shop)
    made = await shop.call("CreateDeployment", made_from(shop.project, "welcome"))
    watch = catalog_service_pb2.WatchCatalogRequest(after_sequence=shop.sequence)
    stream = registry.service.watch(watch)
    await watched(stream, until=shop.sequence)
    served = shop.sequence

    second = await said(shop, prompt, "Bye {{ name }}")
    await shop.call("ArchivePrompt", Archive(name=(await new_prompt(shop, slug="unused")).name))
    changes = await watched(stream, until=shop.sequence)
    stream.cancel()

    assert second.number == 2
    assert sorted(changes) == [served + 1, served + 2, served + 3]
    assert [entry.key for entries in changes.values() for entry in entries] == []
    assert await shop.call("GetDeployment", pb.GetDeploymentRequest(name=made.name)) == made
    await registry.catalog.reach(shop.sequence)
    view = registry.catalog.usable_view()
    packed = view.version(view.project_named(shop.project).uid, made.variants[0].completion.version)
    assert b"Hello {{ name }}" in packed.packed


async def watched(stream: Any, *, until: int) -> dict[int, Any]:
    """The changes of a stream by sequence, once it has reached `until`."""
    changes: dict[int, Any] = {}
    async with asyncio.timeout(20):
        while True:
            message = await stream.read()
            kind = message.WhichOneof("event")
            if kind == "change":
                changes[message.change.sequence] = message.change.entries
            at = {"change": message.change.sequence, "heartbeat": message.heartbeat.sequence}.get(kind or "", 0)
            if max(at, message.begin.sequence if kind == "begin" else 0) >= until:
                return changes


async def test_provenance_stays_until_another_version_comes_and_returns_with_a_rollback(
    shop: Any, new_version: Any
) -> None:
    await new_prompt(shop)
    made = await shop.call("CreateDeployment", made_from(shop.project, "welcome"))
    variant = made.variants[0]

    weighed = pb.UpdateVariantRequest(variant=deployment_pb2.Variant(name=variant.name, weight=5))
    assert (await shop.call("UpdateVariant", weighed)).completion.prompt == "welcome@1"
    # The same version, with what was read or without.
    version = variant.completion.version
    retried = await shop.call("UpdateVariant", update(variant.name, version=version, max_retries=1))
    assert retried.completion.prompt == "welcome@1"
    again = update(variant.name, version=version, prompt="welcome@1", max_retries=2)
    assert (await shop.call("UpdateVariant", again)).completion.prompt == "welcome@1"
    assert (await shop.call("UpdateVariant", again)) == await shop.call("UpdateVariant", again)

    other = await shop.call("UpdateVariant", update(variant.name, new_version=new_version("Other {{ name }}")))
    assert other.completion.prompt == ""
    rollback = pb.RollbackDeploymentRequest(name=made.name, revision="1.0")
    back = await shop.call("RollbackDeployment", rollback)
    assert back.variants[0].completion.prompt == "welcome@1"


async def test_another_origin_of_the_same_words_is_minor_and_told_as_a_difference(shop: Any) -> None:
    await new_prompt(shop, "Hello {{ name }}", "Bye {{ name }}")
    await new_prompt(shop, "Bye {{ name }}", slug="goodbye")
    made = await shop.call("CreateDeployment", made_from(shop.project, "welcome@1"))
    name = made.variants[0].name
    new = made_from(shop.project, "welcome@2").deployment.variants[0].completion
    changed = await shop.call("UpdateVariant", update(name, new_version=new.new_version, prompt="welcome@2"))
    same_words = update(name, version=changed.completion.version, prompt="goodbye@1")
    assert (await shop.call("UpdateVariant", same_words)).completion.prompt == "goodbye@1"

    revisions = (await shop.call("ListRevisions", pb.ListRevisionsRequest(parent=made.name))).revisions
    assert [each.number for each in revisions] == ["2.1", "2.0", "1.0"]
    compare = pb.CompareRevisionsRequest(name=made.name, before="1.0", after="2.0")
    told = {each.path: each for each in (await shop.call("CompareRevisions", compare)).differences}
    origin = told["variants[variant-1].completion.prompt"]
    assert (origin.kind, origin.before_json, origin.after_json) == (
        revision_pb2.DIFFERENCE_KIND_CHANGED,
        '"welcome@1"',
        '"welcome@2"',
    )
    assert "variants[variant-1].completion.messages[0].content" in told


async def test_a_prompt_that_does_not_fit_is_refused_with_its_field(
    registry: Any, shop: Any, new_version: Any, state_of: Any
) -> None:
    await new_prompt(shop)
    stranger = await registry.new_project()
    theirs = await new_prompt(stranger, slug="theirs")
    before = await state_of(registry.url)
    path = "deployment.variants[0].completion"

    for named in ("nope", "welcome@2", "welcome@0", "welcome@x", theirs.name, theirs.uid, "projects/x/y/welcome", "@1"):
        error = await shop.fails("CreateDeployment", made_from(shop.project, named))
        assert isinstance(error, Invalid)
        assert (error.reason, error.violations[0].field) == ("PROMPT_NOT_FOUND", f"{path}.prompt"), named
    both = made_from(shop.project, "welcome")
    both.deployment.variants[0].completion.new_version.messages.add(role=3, content="x")
    both.deployment.variants[0].completion.new_version.variables_schema_json = '{"properties":{"a":{}}}'
    error = await shop.fails("CreateDeployment", both)
    assert error.reason == "PROMPT_AND_MESSAGES"
    assert [each.field for each in error.violations] == [
        f"{path}.new_version.messages",
        f"{path}.new_version.variables_schema_json",
    ]
    assert await state_of(registry.url) == before

    put = version_service_pb2.PutVersionRequest(parent=f"projects/{shop.project}", version=new_version("Other"))
    version = await shop.call("PutVersion", put)
    mismatch = made_from(shop.project, "welcome")
    mismatch.deployment.variants[0].completion.ClearField("new_version")
    mismatch.deployment.variants[0].completion.version = version.uid
    error = await shop.fails("CreateDeployment", mismatch)
    assert (error.reason, error.violations[0].field) == ("PROMPT_MISMATCH", f"{path}.prompt")


async def test_what_is_too_large_together_is_refused(shop: Any) -> None:
    title = '{"title":"' + "x" * 1_000_000 + '"}'
    await new_prompt(shop, "x" * 1_000_000, schema=f'{{"properties":{{"a":{title}}}}}')
    request = made_from(shop.project, "welcome")
    request.deployment.variants[0].completion.new_version.parameters.extra_json = f'{{"a":{title}}}'

    error = await shop.fails("CreateDeployment", request)

    assert isinstance(error, Invalid)
    assert error.reason == "VERSION_TOO_LARGE"


async def test_a_prompt_in_use_is_not_archived_and_its_users_are_named(shop: Any, new_version: Any) -> None:
    prompt = await new_prompt(shop, "Hello {{ name }}", "Bye {{ name }}")
    first = await shop.call("CreateDeployment", made_from(shop.project, "welcome@1", slug="first"))
    second = await shop.call("CreateDeployment", made_from(shop.project, "welcome", slug="second"))
    pointed = pb.SetAliasRequest(name=first.name, alias="staging", revision="live")
    await shop.call("SetAlias", pointed)

    error = await shop.fails("ArchivePrompt", Archive(name=prompt.name))
    assert isinstance(error, Precondition)
    assert error.reason == "PROMPT_IN_USE"
    for user in (f"{first.name} (alias live)", f"{first.name} (alias staging)", f"{second.name} (alias live)"):
        assert user in error.message
        assert user in error.metadata["uses"].split("; ")

    # Out of service, or pointed away: no longer in use. Revisions of the past do not count.
    await shop.call("ArchiveDeployment", pb.ArchiveDeploymentRequest(name=second.name))
    await shop.call("DeleteAlias", pb.DeleteAliasRequest(name=first.name, alias="staging"))
    await shop.call("UpdateVariant", update(first.variants[0].name, new_version=new_version("Own {{ name }}")))
    assert (await shop.call("ArchivePrompt", Archive(name=prompt.name))).archived

    error = await shop.fails("CreateDeployment", made_from(shop.project, "welcome", slug="third"))
    assert isinstance(error, Precondition)
    assert error.reason == "PROMPT_ARCHIVED"
    # Going back makes no version.
    rollback = pb.RollbackDeploymentRequest(name=first.name, revision="1.0")
    back = await shop.call("RollbackDeployment", rollback)
    assert back.variants[0].completion.prompt == "welcome@1"


async def test_many_users_are_cut_short(shop: Any) -> None:
    prompt = await new_prompt(shop)
    made = await shop.call("CreateDeployment", made_from(shop.project, "welcome"))
    for index in range(12):
        await shop.call("SetAlias", pb.SetAliasRequest(name=made.name, alias=f"a{index:02}", revision="1.0"))

    error = await shop.fails("ArchivePrompt", Archive(name=prompt.name))

    assert error.reason == "PROMPT_IN_USE"
    assert error.metadata["uses"].startswith("; ".join(f"{made.name} (alias a{index:02})" for index in range(7)))
    assert "alias a10" not in error.message + error.metadata["uses"]


TEXTS = st.lists(
    st.sampled_from(
        [
            "Hello {{ name }}. ",
            "{% for x in items %}{{ loop.index }}: {{ x.title }}, {% endfor %}",
            "{{ name | default('nobody') | upper }}",
            "{% if items %}{{ items | length }}{% endif %}",
            "{# unsaid #}{% raw %}{{ as it is }}{% endraw %}",
            "line\r\nend {{ name }}",
            "plain 🙂",
        ]
    ),
    min_size=1,
    max_size=5,
).map("".join)
VARIABLES = st.fixed_dictionaries(
    {
        "name": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10),
        "items": st.lists(st.fixed_dictionaries({"title": st.integers(0, 99)}), max_size=3),
    }
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_a_prompt_renders_what_a_version_made_from_it_renders(shop: Any, data: st.DataObject) -> None:
    text = data.draw(TEXTS)
    variables: Any = data.draw(VARIABLES)
    prompt = await new_prompt(shop, text, slug=f"p{uuid.uuid4().hex}")
    slug = prompt.name.rpartition("/")[2]
    made = await shop.call("CreateDeployment", made_from(shop.project, slug, slug=slug))
    version = version_from_proto(await version_of(shop, made.variants[0]), field="version")

    request = prompt_service_pb2.RenderPromptRequest(name=prompt.name, variables_json=orjson.dumps(variables).decode())
    shown = await shop.call("RenderPrompt", request)

    # As the executor renders a version.
    rendered = CompiledMessages(version.messages).render(variables)
    wanted = version_to_proto(type(version)("", "", messages=rendered), provider="").messages
    assert list(shown.messages) == list(wanted)


@pytest.mark.parametrize("rpc", ["CreateVariant", "UpdateVariant"])
async def test_single_variants_are_made_from_prompts_too(shop: Any, rpc: str) -> None:
    await new_prompt(shop, "Hello {{ name }}", "Bye {{ name }}")
    made = await shop.call("CreateDeployment", made_from(shop.project, "welcome@1"))
    wanted = made_from(shop.project, "welcome").deployment.variants[0]
    if rpc == "CreateVariant":
        changed = await shop.call(rpc, pb.CreateVariantRequest(parent=made.name, variant=wanted))
    else:
        wanted.name = made.variants[0].name
        changed = await shop.call(rpc, pb.UpdateVariantRequest(variant=wanted))

    assert changed.completion.prompt == "welcome@2"
    wanted.completion.prompt = "nope"
    wanted.name = made.variants[0].name if rpc == "UpdateVariant" else ""
    request = (
        pb.CreateVariantRequest(parent=made.name, variant=wanted)
        if rpc == "CreateVariant"
        else pb.UpdateVariantRequest(variant=wanted)
    )
    error = await shop.fails(rpc, request)
    assert (error.reason, error.violations[0].field) == ("PROMPT_NOT_FOUND", "variant.completion.prompt")
