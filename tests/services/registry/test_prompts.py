"""Prompts by themselves, over gRPC."""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import Any

import grpc
import orjson
import pytest

from kit import status
from kit.errors import Conflict, Exists, Invalid, NotFound, Precondition
from turnout.registry.v1 import prompt_pb2
from turnout.registry.v1 import prompt_service_pb2 as pb

SYSTEM, USER = 1, 3


def create(project: str, slug: str = "welcome", *texts: str, **fields: Any) -> pb.CreatePromptRequest:
    request = pb.CreatePromptRequest(parent=f"projects/{project}", prompt_id=slug, **fields)
    for text in texts or ("Hello {{ name }}",):
        request.prompt.messages.add(role=SYSTEM, content=text)
    return request


def update(name: str, *texts: str, mask: tuple[str, ...] = (), **fields: Any) -> pb.UpdatePromptRequest:
    request = pb.UpdatePromptRequest(prompt=prompt_pb2.Prompt(name=name, **fields))
    request.update_mask.paths.extend(mask)
    for text in texts:
        request.prompt.messages.add(role=SYSTEM, content=text)
    return request


def get(name: str) -> pb.GetPromptRequest:
    return pb.GetPromptRequest(name=name)


def schema(prompt: prompt_pb2.Prompt) -> Any:
    return orjson.loads(prompt.variables_schema_json) if prompt.variables_schema_json else None


async def walk(client: Any, rpc: str, request: Any) -> tuple[list[prompt_pb2.Prompt], int]:
    """All elements of a list, and the number of its pages."""
    found: list[prompt_pb2.Prompt] = []
    pages = 0
    while True:
        page = await client.call(rpc, request)
        found += page.prompts
        pages += 1
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return found, pages


async def test_a_prompt_comes_back_by_slug_uid_and_number_as_it_was_given(shop: Any) -> None:
    request = create(shop.project, "welcome", "You are {{ role }}.")
    message = request.prompt.messages.add(role=USER)
    message.parts.add(text="Look at {{ thing.colour }}")
    message.parts.add().image.url = "https://example.com/{{ id }}.png"
    request.prompt.variables_schema_json = '{"properties":{"role":{"type":"string"}}}'
    request.prompt.description, request.prompt.note = "for guests", "the first"
    made = await shop.call("CreatePrompt", request)

    assert made.name == f"projects/{shop.project}/prompts/welcome"
    assert (made.number, made.display_name, made.description, made.note) == (1, "welcome", "for guests", "the first")
    assert list(made.messages) == list(request.prompt.messages)
    assert sorted(schema(made)["properties"]) == ["id", "role", "thing"]
    assert schema(made)["properties"]["role"] == {"type": "string"}
    assert made.author == f"projects/{shop.project}/apiKeys/{shop.key.split('_')[1]}"
    for segment in ("welcome", "welcome@1", made.uid, f"{made.uid}@1"):
        assert await shop.call("GetPrompt", get(f"projects/{shop.project}/prompts/{segment}")) == made


async def test_other_messages_or_types_are_a_new_number_and_other_texts_are_none(shop: Any) -> None:
    made = await shop.call("CreatePrompt", create(shop.project))
    texts = await shop.call("UpdatePrompt", update(made.name, description="for guests", note="unsaid"))
    assert (texts.number, texts.description, texts.note) == (1, "for guests", "")
    assert texts.etag != made.etag

    second = await shop.call("UpdatePrompt", update(made.name, "Hi {{ name }}", note="shorter"))
    typed = '{"properties":{"name":{"type":"string"}}}'
    third = await shop.call("UpdatePrompt", update(made.name, variables_schema_json=typed))

    assert [(each.number, each.note) for each in (second, third)] == [(2, "shorter"), (3, "")]
    assert schema(third)["properties"] == {"name": {"type": "string"}}
    assert third.messages == second.messages
    first = await shop.call("GetPrompt", get(f"{made.name}@1"))
    assert (first.number, list(first.messages)) == (1, list(made.messages))
    # What belongs to the prompt is the same in all its states.
    assert (first.description, first.etag) == ("for guests", third.etag)
    numbers, pages = await walk(shop, "ListPromptNumbers", pb.ListPromptNumbersRequest(parent=made.name, page_size=2))
    assert ([each.number for each in numbers], pages) == ([3, 2, 1], 2)
    assert numbers == [third, await shop.call("GetPrompt", get(f"{made.name}@2")), first]


async def test_an_update_that_changes_nothing_writes_nothing(registry: Any, shop: Any, state_of: Any) -> None:
    request = create(shop.project, "welcome", "{{ a }}{{ b.c }}")
    request.prompt.variables_schema_json = '{"properties":{"a":{"type":"string"}}}'
    made = await shop.call("CreatePrompt", request)
    before = await state_of(registry.url)

    # What was read and sent back, whole and in parts.
    for mask in ((), ("messages",), ("variables_schema_json",), ("messages", "display_name", "description")):
        again = pb.UpdatePromptRequest(prompt=made)
        again.update_mask.paths.extend(mask)
        assert await shop.call("UpdatePrompt", again) == made

    assert await state_of(registry.url) == before


async def test_variables_that_are_no_longer_read_are_gone_and_declared_ones_stay(shop: Any) -> None:
    request = create(shop.project, "welcome", "{{ a }}{{ b }}")
    request.prompt.variables_schema_json = '{"properties":{"a":{"type":"string"}}}'
    made = await shop.call("CreatePrompt", request)

    other = await shop.call("UpdatePrompt", update(made.name, "{{ c }}"))
    assert schema(other)["properties"] == {"a": {"type": "string"}, "c": {}}
    bare = await shop.call("UpdatePrompt", update(made.name, "plain", mask=("messages", "variables_schema_json")))
    assert bare.variables_schema_json == ""


async def test_a_mask_clears_texts_and_refuses_what_does_not_change(shop: Any) -> None:
    request = create(shop.project)
    request.prompt.display_name = request.prompt.description = "x"
    made = await shop.call("CreatePrompt", request)
    cleared = await shop.call("UpdatePrompt", update(made.name, mask=("display_name", "description")))
    assert (cleared.display_name, cleared.description) == ("welcome", "")

    for mask, field in (("number", "update_mask"), ("note", "update_mask"), ("messages", "prompt.messages")):
        error = await shop.fails("UpdatePrompt", update(made.name, mask=(mask,)))
        assert isinstance(error, Invalid)
        assert error.violations[0].field == field


async def test_a_dry_write_answers_what_would_be_and_writes_nothing(registry: Any, shop: Any, state_of: Any) -> None:
    made = await shop.call("CreatePrompt", create(shop.project))
    before = await state_of(registry.url)

    request = update(made.name, "Hi")
    request.validate_only = True
    assert (await shop.call("UpdatePrompt", request)).number == 2
    dry = await shop.call("CreatePrompt", create(shop.project, "other", validate_only=True))
    assert dry.name.endswith("/other")
    taken = await shop.fails("CreatePrompt", create(shop.project, validate_only=True))
    assert taken.reason == "PROMPT_EXISTS"

    assert await state_of(registry.url) == before


async def test_a_create_is_repeatable_with_a_request_id(shop: Any) -> None:
    request = create(shop.project, request_id=str(uuid.uuid4()))
    made = await shop.call("CreatePrompt", request)
    assert await shop.call("CreatePrompt", request) == made

    other = create(shop.project, "welcome", "Other", request_id=request.request_id)
    assert (await shop.fails("CreatePrompt", other)).reason == "REQUEST_ID_REUSED"
    error = await shop.fails("CreatePrompt", create(shop.project))
    assert isinstance(error, Exists)
    assert error.reason == "PROMPT_EXISTS"


async def test_an_update_of_what_has_changed_since_is_a_conflict(shop: Any) -> None:
    made = await shop.call("CreatePrompt", create(shop.project))
    await shop.call("UpdatePrompt", update(made.name, "Hi", etag=made.etag))

    for rpc, request in (
        ("UpdatePrompt", update(made.name, "Hey", etag=made.etag)),
        ("ArchivePrompt", pb.ArchivePromptRequest(name=made.name, etag=made.etag)),
        ("UnarchivePrompt", pb.UnarchivePromptRequest(name=made.name, etag=made.etag)),
    ):
        error = await shop.fails(rpc, request)
        assert isinstance(error, Conflict)
        assert error.reason == "ETAG_MISMATCH"


async def test_concurrent_updates_make_numbers_without_gaps_each_with_its_own_text(shop: Any) -> None:
    made = await shop.call("CreatePrompt", create(shop.project, "welcome", "text 0"))
    answers = await asyncio.gather(
        *(shop.call("UpdatePrompt", update(made.name, f"text {index}")) for index in range(1, 13))
    )

    assert sorted(each.number for each in answers) == list(range(2, 14))
    numbers, _ = await walk(shop, "ListPromptNumbers", pb.ListPromptNumbersRequest(parent=made.name, page_size=5))
    assert [each.number for each in numbers] == list(range(13, 0, -1))
    told = {each.number: each.messages[0].content for each in answers} | {1: "text 0"}
    assert {each.number: each.messages[0].content for each in numbers} == told


async def test_of_racing_updates_with_one_etag_exactly_one_wins(shop: Any) -> None:
    made = await shop.call("CreatePrompt", create(shop.project))

    async def change(index: int) -> str:
        try:
            await shop.call("UpdatePrompt", update(made.name, f"text {index}", etag=made.etag))
        except grpc.aio.AioRpcError as failure:
            return status.reason_of(failure)
        return "won"

    assert sorted(await asyncio.gather(*map(change, range(5)))) == ["ETAG_MISMATCH"] * 4 + ["won"]


@pytest.mark.parametrize("seed", range(3))
async def test_pages_are_complete_while_prompts_are_added_and_changed(shop: Any, seed: int) -> None:
    chance = random.Random(seed)
    before = [
        (await shop.call("CreatePrompt", create(shop.project, f"before-{index}"))).name
        for index in range(chance.randrange(5, 12))
    ]
    request = pb.ListPromptsRequest(parent=f"projects/{shop.project}", page_size=chance.randrange(1, 4))
    seen: list[str] = []
    while True:
        page = await shop.call("ListPrompts", request)
        seen += [each.name for each in page.prompts]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
        if len(seen) < 30:
            await asyncio.gather(
                shop.call("CreatePrompt", create(shop.project, f"p{uuid.uuid4().hex[:10]}")),
                shop.call("UpdatePrompt", update(chance.choice(before), f"text {uuid.uuid4()}")),
            )

    assert len(seen) == len(set(seen))
    assert seen[: len(before)] == before


async def test_a_page_holds_fewer_where_prompts_are_long(shop: Any) -> None:
    long = "x" * 900_000
    for index in range(5):
        await shop.call("CreatePrompt", create(shop.project, f"p{index}", long if index < 4 else "short"))
    for index in range(4):
        await shop.call("UpdatePrompt", update(f"projects/{shop.project}/prompts/p4", f"{index}{long}"))

    prompts, pages = await walk(shop, "ListPrompts", pb.ListPromptsRequest(parent=f"projects/{shop.project}"))
    assert ([each.name[-2:] for each in prompts], pages) == (["p0", "p1", "p2", "p3", "p4"], 2)
    asked = pb.ListPromptNumbersRequest(parent=f"projects/{shop.project}/prompts/p4")
    numbers, pages = await walk(shop, "ListPromptNumbers", asked)
    assert ([each.number for each in numbers], pages) == ([5, 4, 3, 2, 1], 2)


async def test_a_page_token_fits_its_own_list_only(registry: Any, shop: Any) -> None:
    made = [await shop.call("CreatePrompt", create(shop.project, slug)) for slug in ("a", "b")]
    await shop.call("UpdatePrompt", update(made[0].name, "Hi"))
    prompts = await shop.call("ListPrompts", pb.ListPromptsRequest(parent=f"projects/{shop.project}", page_size=1))
    numbers = await shop.call("ListPromptNumbers", pb.ListPromptNumbersRequest(parent=made[0].name, page_size=1))
    token, parent = prompts.next_page_token, f"projects/{shop.project}"
    assert token
    assert numbers.next_page_token

    for rpc, request in (
        ("ListPrompts", pb.ListPromptsRequest(parent=parent, page_token=numbers.next_page_token)),
        ("ListPrompts", pb.ListPromptsRequest(parent=parent, page_token=token, show_archived=True)),
        ("ListPromptNumbers", pb.ListPromptNumbersRequest(parent=made[1].name, page_token=numbers.next_page_token)),
        ("ListPromptNumbers", pb.ListPromptNumbersRequest(parent=made[0].name, page_token=token)),
    ):
        assert (await shop.fails(rpc, request)).reason == "PAGE_TOKEN_INVALID"


async def test_an_archived_prompt_is_read_and_rendered_but_not_changed_and_comes_back(
    registry: Any, shop: Any, state_of: Any
) -> None:
    made = await shop.call("CreatePrompt", create(shop.project))
    archived = await shop.call("ArchivePrompt", pb.ArchivePromptRequest(name=made.name))
    assert archived.archived
    before = await state_of(registry.url)
    assert await shop.call("ArchivePrompt", pb.ArchivePromptRequest(name=made.name)) == archived
    assert await state_of(registry.url) == before

    error = await shop.fails("UpdatePrompt", update(made.name, "Hi"))
    assert isinstance(error, Precondition)
    assert error.reason == "PROMPT_ARCHIVED"
    assert await shop.call("GetPrompt", get(made.name)) == archived
    assert (await shop.fails("CreatePrompt", create(shop.project))).reason == "PROMPT_EXISTS"
    asked = pb.ListPromptsRequest(parent=f"projects/{shop.project}")
    assert list((await shop.call("ListPrompts", asked)).prompts) == []
    asked.show_archived = True
    assert list((await shop.call("ListPrompts", asked)).prompts) == [archived]

    back = await shop.call("UnarchivePrompt", pb.UnarchivePromptRequest(name=made.name))
    assert not back.archived
    assert (await shop.call("UpdatePrompt", update(made.name, "Hi"))).number == 2


async def test_a_prompt_is_rendered_as_of_the_number_that_is_named(shop: Any) -> None:
    made = await shop.call("CreatePrompt", create(shop.project, "welcome", "Hello {{ name }}", "{{ n }} of {{ n }}"))
    await shop.call("UpdatePrompt", update(made.name, "Bye {{ name }}"))

    async def render(name: str, variables: str) -> Any:
        answer = await shop.call("RenderPrompt", pb.RenderPromptRequest(name=name, variables_json=variables))
        return answer.number, [each.content for each in answer.messages]

    assert await render(made.name, '{"name":"Ann"}') == (2, ["Bye Ann"])
    assert await render(f"{made.name}@1", '{"name":"Ann","n":2,"more":1}') == (1, ["Hello Ann", "2 of 2"])


async def test_what_cannot_be_rendered_is_told(shop: Any) -> None:
    made = await shop.call("CreatePrompt", create(shop.project, "welcome", "{{ a }}{{ b.c }}", "{% if d %}{% endif %}"))
    loop = await shop.call(
        "CreatePrompt", create(shop.project, "loop", "{% for x in xs %}{% for y in xs %}.{% endfor %}{% endfor %}")
    )

    error = await shop.fails("RenderPrompt", pb.RenderPromptRequest(name=made.name))
    assert isinstance(error, Invalid)
    assert error.reason == "MISSING_VARIABLES"
    assert error.metadata["variables"] == "a, b.c, d"
    for name, variables, reason in (
        (made.name, "[]", "JSON_NOT_OBJECT"),
        (made.name, "{", "JSON_MALFORMED"),
        (made.name, '{"a":' + "[" * 70 + "]" * 70 + "}", "JSON_TOO_DEEP"),
        (made.name, '{"a":' + "[" * 10_000 + "]" * 10_000 + "}", "JSON_MALFORMED"),
        (made.name, '{"a":"' + "x" * (256 << 10) + '"}', "JSON_TOO_LARGE"),
        (loop.name, '{"xs":[' + "1," * 200 + "1]}", "TEMPLATE_LOOP_LIMIT"),
    ):
        error = await shop.fails("RenderPrompt", pb.RenderPromptRequest(name=name, variables_json=variables))
        assert isinstance(error, Invalid)
        assert error.reason == reason


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("prompt_id", "UPPER", "prompt_id"),
        ("prompt_id", "123", "prompt_id"),
        ("prompt_id", "pmt_01h455vb4pex5vsknk084sn02q", "prompt_id"),
        ("prompt_id", "a@1", "prompt_id"),
        ("text", "a\n{{ broken", "prompt.messages[0].content"),
        ("text", "{{ f() }}", "prompt.messages[0].content"),
        ("text", "a\0", "prompt.messages[0].content"),
        ("text", "x" * (1 << 20) + "y", "prompt.messages"),
        ("role", 0, "prompt.messages[0].role"),
        ("schema", "[]", "prompt.variables_schema_json"),
        ("schema", "{", "prompt.variables_schema_json"),
        ("schema", '{"type":"string"}', "prompt.variables_schema_json"),
        ("schema", '{"$ref":"#"}', "prompt.variables_schema_json"),
        ("schema", '{"a":' + "[" * 10_000 + "]" * 10_000 + "}", "prompt.variables_schema_json"),
        ("schema", '{"a":"' + "x" * (1 << 20) + '"}', "prompt.variables_schema_json"),
        ("note", "n\0", "prompt.note"),
        ("description", "x" * 1_000_000, "prompt.description"),
        ("empty", "", "prompt.messages"),
    ],
)
async def test_bad_input_names_its_field_and_changes_nothing(
    registry: Any, shop: Any, state_of: Any, path: str, value: Any, field: str
) -> None:
    request = create(shop.project)
    message = request.prompt.messages[0]
    match path:
        case "prompt_id":
            request.prompt_id = value
        case "text":
            message.content = value
        case "role":
            message.role = value
        case "schema":
            request.prompt.variables_schema_json = value
        case "empty":
            request.prompt.ClearField("messages")
        case _:
            setattr(request.prompt, path, value)
    before = await state_of(registry.url)

    error = await shop.fails("CreatePrompt", request)

    assert isinstance(error, Invalid), error
    assert field in [violation.field for violation in error.violations]
    assert await state_of(registry.url) == before


async def test_what_is_not_there_is_not_found_and_what_is_no_name_is_refused(registry: Any, shop: Any) -> None:
    stranger = await registry.new_project()
    made = await shop.call("CreatePrompt", create(shop.project))
    for rpc, request in (
        ("GetPrompt", get(f"projects/{shop.project}/prompts/nope")),
        ("GetPrompt", get(f"{made.name}@2")),
        ("RenderPrompt", pb.RenderPromptRequest(name=f"{made.name}@999999999")),
        ("UpdatePrompt", update(f"projects/{shop.project}/prompts/nope", "x")),
        ("ListPromptNumbers", pb.ListPromptNumbersRequest(parent=f"projects/{shop.project}/prompts/nope")),
    ):
        error = await shop.fails(rpc, request)
        assert isinstance(error, NotFound)
        assert error.reason == "PROMPT_NOT_FOUND"
    elsewhere = await stranger.fails("GetPrompt", get(f"projects/{stranger.project}/prompts/{made.uid}"))
    assert elsewhere.reason == "PROMPT_NOT_FOUND"
    malformed: list[tuple[str, Any, str]] = [
        ("GetPrompt", get(f"{made.name}@0"), "name"),
        ("GetPrompt", get(f"{made.name}@1@2"), "name"),
        ("RenderPrompt", pb.RenderPromptRequest(name=f"{made.name}@"), "name"),
        # Only the whole prompt changes.
        ("UpdatePrompt", update(f"{made.name}@1", "x"), "prompt.name"),
        ("ArchivePrompt", pb.ArchivePromptRequest(name=f"{made.name}@1"), "name"),
    ]
    for rpc, wrong, field in malformed:
        error = await shop.fails(rpc, wrong)
        assert (error.reason, error.violations[0].field) == ("RESOURCE_NAME_MALFORMED", field)
