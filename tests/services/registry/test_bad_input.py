"""Hostile values in every field of every rpc that writes: refused where they are, quickly, and nothing changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from kit import status
from kit.errors import AppError
from tests.services.registry.test_other_projects import named_requests
from turnout.options.v1 import options_pb2
from turnout.registry.v1 import (
    deployment_pb2,
    deployment_service_pb2,
    project_service_pb2,
    prompt_service_pb2,
    routing_pb2,
    version_service_pb2,
)

pytestmark = pytest.mark.thorough
MAX_SECONDS = 2.0
LARGE = "x" * ((1 << 20) + 1)
REQUIRED: dict[str, Any] = {"provider": "main", "model": "small", "role": 3}
"""What a message that a path goes through must have, so that nothing else in it is wrong."""
NAMES = ("name", "parent")
BOUNDED_TOGETHER = ("messages", "fallbacks")
"""Lists whose texts have one bound together."""
READING = ("registry:read", "catalog:watch")


def paths(message: Any, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """Every string field below a message; of a list the first element's."""
    for field in message.DESCRIPTOR.fields:
        path = f"{prefix}{field.name}"
        if field.type == FieldDescriptor.TYPE_STRING:
            yield f"{path}[0]" if field.is_repeated else path
        elif field.type == FieldDescriptor.TYPE_MESSAGE and depth < 6 and not _is_foreign(field.message_type):
            value = getattr(message, field.name)
            if field.is_repeated:
                yield from paths(value.add(), f"{path}[0].", depth + 1)
            else:
                yield from paths(value, f"{path}.", depth + 1)


def _is_foreign(kind: Any) -> bool:
    return kind.full_name.startswith("google.") or bool(kind.GetOptions().map_entry)


def with_value(base: Message, path: str, value: str) -> Message:
    """A copy of a request with one text in it."""
    request = type(base)()
    request.CopyFrom(base)
    target: Any = request
    *parents, last = path.split(".")
    for part in parents:
        name, _, index = part.partition("[")
        target = getattr(target, name)
        if index:
            target = target[0] if len(target) else target.add()
        _make_room(target, path)
        for required, text in REQUIRED.items():
            if required in target.DESCRIPTOR.fields_by_name and not getattr(target, required):
                setattr(target, required, text)
    name, _, index = last.partition("[")
    if index:
        del getattr(target, name)[:]
        getattr(target, name).append(value)
    else:
        setattr(target, name, value)
    return request


def _make_room(target: Any, path: str) -> None:
    """What a message must have, and must not, that holds the field: it shall be the only fault of the request."""
    kind = target.DESCRIPTOR.name
    if kind == "Variant" and ".completion." not in path and ".recommendation." not in path:
        if target.WhichOneof("serving") is None:
            target.completion.new_version.provider, target.completion.new_version.model = "main", "small"
    elif kind == "CompletionVariant" and ".new_version." in path:
        target.version = ""
    elif kind == "CompletionVariant" and not target.version and not path.endswith(".version"):
        target.new_version.provider, target.new_version.model = "main", "small"
    elif kind == "Message" and ".parts[0]." in path:
        target.content = ""
    elif kind == "Field":
        target.kind = routing_pb2.FIELD_KIND_STRING
    elif kind == "Rule":
        target.condition, target.variant = target.condition or "true", target.variant or "variant-1"
    elif kind == "Share":
        target.variant = target.variant or "variant-1"


def all_paths(base: Message) -> list[str]:
    """Of every string field that a request of this type can have."""
    return list(paths(type(base)()))


async def head_of(url: str) -> int:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return int(await connection.fetchval("SELECT sequence FROM registry.change_head"))
    finally:
        await connection.close()


async def outcome(client: Any, rpc: str, request: Message, answers: list[Any] | None = None) -> AppError | None:
    """Why it was refused; None if it was done: then the answer is added to `answers`.

    :raises AssertionError: if that took too long, or is no answer to a bad request
    """
    began = time.monotonic()
    error: AppError | None = None
    try:
        answer = await client.rpcs[rpc](request, metadata=client.metadata, timeout=20)
        if answers is not None:
            answers.append(answer)
    except grpc.aio.AioRpcError as failure:
        error = status.from_rpc_error(failure, peer="registry")
    assert time.monotonic() - began < MAX_SECONDS, rpc
    assert error is None or error.kind in ("invalid", "not_found", "conflict", "exists", "precondition"), (rpc, error)
    return error


@pytest.fixture
async def writes(
    registry: Any, shop: Any, deployment_request: Any, methods: list[Any]
) -> dict[str, tuple[Any, Message]]:
    """A client and a right request for every rpc that writes."""
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    ids = {
        "provider": "main",
        "version": made.variants[0].completion.version.rpartition("/")[2],
        "deployment": made.uid,
        "key": shop.key.split("_")[1],
    }
    prompt = prompt_service_pb2.CreatePromptRequest(parent=f"projects/{shop.project}", prompt_id="welcome")
    prompt.prompt.messages.add(role=1, content="x")
    await shop.call("CreatePrompt", prompt)
    requests: dict[str, Message] = named_requests(shop.project, ids)
    requests["CreateProject"] = project_service_pb2.CreateProjectRequest(project_id="another")
    found = {}
    for method in methods:
        scope = method.GetOptions().Extensions[options_pb2.auth].scope
        if scope in READING or method.name.startswith(("Get", "List")) or method.name not in requests:
            continue
        found[method.name] = (registry.platform, requests[method.name])
    await registry.catalog.reach(shop.sequence)
    return found


async def test_nul_in_any_text_of_any_write_is_refused_where_it_is(registry: Any, writes: Any) -> None:
    before, count = await head_of(registry.url), 0
    wrong: list[Any] = []
    for rpc, (client, base) in writes.items():
        for path in all_paths(base):
            error = await outcome(client, rpc, with_value(base, path, "a\0b"))
            count += 1
            is_named = error is not None and any(_is_about(violation.field, path) for violation in error.violations)
            if not is_named and not (error is not None and path.endswith("etag")):
                wrong.append((rpc, path, error))
    assert not wrong
    assert count > 200
    assert await head_of(registry.url) == before


async def test_a_megabyte_in_any_text_of_any_write_is_refused_where_it_is(registry: Any, writes: Any) -> None:
    wrong: list[Any] = []
    answers: list[Any] = []
    for rpc, (client, base) in writes.items():
        for path in all_paths(base):
            before = await head_of(registry.url)
            request: Any = with_value(base, path, LARGE)
            if "validate_only" in request.DESCRIPTOR.fields_by_name:
                request.validate_only = True
            error = await outcome(client, rpc, request, answers)
            field = path.rpartition(".")[2].partition("[")[0]
            if error is None:
                # What only answers have is ignored, and not repeated. Of a version's texts, all together are bounded.
                is_right = answers[-1].ByteSize() < len(LARGE) or field == "stop"
            elif error.kind == "invalid":
                is_right = any(_is_about(violation.field, path) for violation in error.violations)
            else:
                is_right = error.kind == "precondition" or field in (*NAMES, "etag")
            if not is_right:
                wrong.append((rpc, path, error))
            elif error is not None:
                assert await head_of(registry.url) == before, (rpc, path)
    assert not [(rpc, path, error and (error.reason, error.violations)) for rpc, path, error in wrong]


def _is_about(violated: str, path: str) -> bool:
    """Whether a violation names a field, a place in its document, or the list that holds too much with it."""
    at = (f"{violated}[0]", f"{violated}[0].") if violated.rpartition(".")[2] in BOUNDED_TOGETHER else ()
    return violated == path or violated.startswith((f"{path}.", f"{path}[")) or path.startswith(at)


TEMPLATES = {
    "a call": "{{ f() }}",
    "a method": "{{ ''.join(x) }}",
    "a class": "{{ ''.__class__.__mro__ }}",
    "an import": "{% import 'x' as y %}",
    "a macro": "{% macro m() %}{{ m() }}{% endmacro %}",
    "a product": "{{ 'a' * 1000000000 }}",
    "a power": "{{ 9 ** 9 ** 9 ** 9 }}",
    "a filled text": "{{ '%1000000000d' % 1 }}",
    "parentheses": "{{ " + "(" * 10_000 + "x" + ")" * 10_000 + " }}",
    "nested loops": "{% for a in b %}" * 5_000 + "{% endfor %}" * 5_000,
    "nested ifs": "{% if a %}" * 5_000 + "{% endif %}" * 5_000,
    "filters": "{{ x" + "|upper" * 20_000 + " }}",
    "attributes": "{{ x" + ".a" * 100_000 + " }}",
    "sums": "{{ x" + "+x" * 100_000 + " }}",
    "a list": "{{ [" + "[" * 20_000 + "]" * 20_000 + "] }}",
    "unfinished": "{{ x",
    "many": "{{ x }}" * 100_000,
    "names": "".join(f"{{{{ v{number} }}}}" for number in range(50_000)),
    "deep names": "".join(f"{{{{ a.b{number}.c.d.e }}}}" for number in range(30_000)),
}


@pytest.mark.parametrize("name", TEMPLATES)
async def test_a_hostile_template_is_refused_quickly_where_it_is(
    registry: Any, shop: Any, new_version: Any, deployment_request: Any, name: str
) -> None:
    before = await head_of(registry.url)
    put = version_service_pb2.PutVersionRequest(parent=f"projects/{shop.project}", validate_only=True)
    put.version.CopyFrom(new_version(TEMPLATES[name]))
    create: Any = deployment_request(shop.project, "hostile", (TEMPLATES[name],))
    create.validate_only = True
    content = "messages[0].content"
    for rpc, request, field in (
        ("PutVersion", put, f"version.{content}"),
        ("CreateDeployment", create, f"deployment.variants[0].completion.new_version.{content}"),
    ):
        request.skip_model_check = True
        error = await outcome(shop, rpc, request)
        assert error is not None, rpc
        assert [violation.field for violation in error.violations] == [field]
    assert await head_of(registry.url) == before


DEEP = 10_000
DOCUMENTS = {
    "deep lists": "[" * DEEP + "]" * DEEP,
    "deep objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "an open text": '{"a":"',
    "a large number": '{"a":' + "9" * 100_000 + "}",
    "an exponent": '{"a":1e999999}',
    "a lone surrogate": '{"a":"\\ud800"}',
    "NUL": '{"a":"\\u0000"}',
    "a megabyte": '{"a":"' + LARGE + '"}',
}
SCHEMAS = {
    "an external reference": '{"$ref":"https://example.com/schema.json"}',
    "a file": '{"properties":{"x":{"$ref":"file:///etc/passwd"}}}',
    "a dangling reference": '{"properties":{"x":{"$ref":"#/$defs/none"}}}',
    "no type": '{"type":"text"}',
    "a broken pattern": '{"properties":{"x":{"type":"string","pattern":"("}}}',
}
RECURSIVE = {
    "itself": ('{"$ref":"#"}', "SCHEMA_MALFORMED"),
    "two of each other": (
        '{"$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}},"properties":{"x":{"$ref":"#/$defs/a"}}}',
        "SCHEMA_MALFORMED",
    ),
    "a tree": ('{"properties":{"x":{"$ref":"#"}},"type":"object"}', ""),
    "wide": ('{"anyOf":[' + ",".join(['{"$ref":"#"}'] * 200) + "]}", "SCHEMA_MALFORMED"),
}
"""Schemas, and why they are refused; empty for what may be: it goes on for ever only where the value does."""
JSON_FIELDS = (
    "tools_json",
    "tool_choice_json",
    "response_format_json",
    "variables_schema_json",
    "parameters.extra_json",
)


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("field", JSON_FIELDS)
async def test_hostile_json_is_refused_quickly_where_it_is(
    registry: Any, shop: Any, new_version: Any, deployment_request: Any, field: str, name: str
) -> None:
    before = await head_of(registry.url)
    put = version_service_pb2.PutVersionRequest(
        parent=f"projects/{shop.project}", version=new_version(), skip_model_check=True, validate_only=True
    )
    error = await outcome(shop, "PutVersion", with_value(put, f"version.{field}", DOCUMENTS[name]))
    assert error is not None
    assert all(violation.field.startswith(f"version.{field}") for violation in error.violations), error.violations
    assert error.violations
    assert await head_of(registry.url) == before


@pytest.mark.parametrize("name", [*SCHEMAS, *RECURSIVE])
async def test_a_hostile_schema_is_refused_where_it_is_and_a_recursive_one_ends(
    registry: Any, shop: Any, new_version: Any, deployment_request: Any, name: str
) -> None:
    before = await head_of(registry.url)
    text, reason = RECURSIVE[name] if name in RECURSIVE else (SCHEMAS[name], None)
    path = "deployment.variants[0].completion.new_version.variables_schema_json"
    base: Any = deployment_request(shop.project, "hostile")
    base.skip_model_check = base.validate_only = True
    error = await outcome(shop, "CreateDeployment", with_value(base, path, text))
    if reason is None:
        assert error is not None
    else:
        assert ("" if error is None else error.reason) == reason
    if error is not None:
        assert all(violation.field.startswith(path) for violation in error.violations), error.violations
        assert error.violations
    assert await head_of(registry.url) == before


def deep_places(project: str, deployment: str) -> dict[str, tuple[str, Message, str]]:
    """Where else a document is given: the rpc, a request that is right, and the document's field."""
    parent = f"projects/{project}"
    prompt = prompt_service_pb2.CreatePromptRequest(parent=parent, prompt_id="deep")
    prompt.prompt.messages.add(role=3, content="x")
    update = prompt_service_pb2.UpdatePromptRequest()
    update.prompt.name = f"{parent}/prompts/welcome"
    sides = deployment_service_pb2.CheckCompatibilityRequest(
        name=parent, before=deployment_pb2.Contract(), after=deployment_pb2.Contract()
    )
    variant = deployment_service_pb2.CreateVariantRequest(parent=deployment, skip_model_check=True)
    variant.variant.completion.new_version.provider, variant.variant.completion.new_version.model = "main", "small"
    return {
        "a new prompt": ("CreatePrompt", prompt, "prompt.variables_schema_json"),
        "a prompt": ("UpdatePrompt", update, "prompt.variables_schema_json"),
        "variables before": ("CheckCompatibility", sides, "before.variables_schema_json"),
        "an answer before": ("CheckCompatibility", sides, "before.response_format_json"),
        "variables after": ("CheckCompatibility", sides, "after.variables_schema_json"),
        "an answer after": ("CheckCompatibility", sides, "after.response_format_json"),
        "a fallback": ("CreateVariant", variant, "variant.completion.fallbacks[0].parameters.extra_json"),
        "values": (
            "RenderPrompt",
            prompt_service_pb2.RenderPromptRequest(name=f"{parent}/prompts/welcome"),
            "variables_json",
        ),
    }


@pytest.mark.parametrize("name", ["deep lists", "deep objects"])
@pytest.mark.parametrize("place", deep_places("x", "x"))
async def test_deep_json_is_refused_quickly_wherever_it_is_given(
    registry: Any, shop: Any, deployment_request: Any, place: str, name: str
) -> None:
    made = await shop.call("CreateDeployment", deployment_request(shop.project))
    prompt = prompt_service_pb2.CreatePromptRequest(parent=f"projects/{shop.project}", prompt_id="welcome")
    prompt.prompt.messages.add(role=3, content="x")
    await shop.call("CreatePrompt", prompt)
    rpc, request, field = deep_places(shop.project, made.name)[place]

    right = '{"type":"text"}' if "response_format" in field else "{}"
    assert await outcome(shop, rpc, with_value(request, field, right)) is None
    before = await head_of(registry.url)
    error = await outcome(shop, rpc, with_value(request, field, DOCUMENTS[name]))

    assert error is not None
    assert [violation.field for violation in error.violations] == [field]
    assert await head_of(registry.url) == before
