"""Random nonsense to every rpc: a clear status with a reason each time, never INTERNAL, and nothing hangs."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from kit.status import reason_of
from stack.services import ROOMS, Installation
from tests.system.clients import Clients

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CALLS = 120
AT_ONCE = 10
TEXTS = (
    *(
        "",
        "a",
        "\x00",
        "a\x00b",
        "'; DROP TABLE x;--",
        "é" * 30,
        "\u202e",
        "x" * 70,
        "x" * 5000,
        "9" * 30,
        "i",
        "hello",
    ),
    *(
        "projects/-",
        "projects/x",
        "projects//",
        "projects/{p}",
        "projects/{p}/deployments/agent",
        "agent",
        "agent:live",
    ),
    *("projects/{p}/apiKeys/zzzzzzzzzzzz", "agent/", "projects/{p}/versions/ver_" + "0" * 32, "platform:admin"),
    *("{{ x.__class__ }}", "{% for %}", "{{ a }}", "{{ " + "(" * 60, "{", "[]", "{}", '{"a":1e999}', "null", '"x"'),
    *('{"a":' * 60 + "1" + "}" * 60, '{"$ref":"http://x/y"}', '{"type":"object","properties":{"a":{"$ref":"#"}}}'),
    *("https://example.com/v1", "http://169.254.169.254/", "deployments:run", "00000000-0000-4000-8000-000000000000"),
)
NUMBERS: dict[int, Callable[[], object]] = {
    FieldDescriptor.CPPTYPE_INT32: lambda: random.choice([0, 1, -1, 2**31 - 1, -(2**31)]),
    FieldDescriptor.CPPTYPE_INT64: lambda: random.choice([0, 1, -1, 2**63 - 1, -(2**63)]),
    FieldDescriptor.CPPTYPE_DOUBLE: lambda: random.choice([0.0, -1.0, 100.0, float("nan"), float("inf")]),
    FieldDescriptor.CPPTYPE_BOOL: lambda: random.random() < 0.5,
    FieldDescriptor.CPPTYPE_ENUM: lambda: random.choice([0, 1, 2, 99]),
}
SERVICES = {
    "registry": ("Project", "Provider", "Version", "Deployment", "ApiKey", "Model", "Catalog"),
    "executor": ("Execution",),
    "analytics": ("Metrics", "Log"),
    "router": ("Routing",),
    "inference": ("Recommendation", "Artifact"),
}


NO_MESSAGES = {"REQUEST_UNREADABLE": b"\xff\xff\xff", "REQUEST_TOO_LARGE": bytes(6 << 20)}
SCOPE_MISSING = ("PERMISSION_DENIED", "SCOPE_MISSING")


def _fill(message: Message, project: str, depth: int = 0) -> None:
    for field in message.DESCRIPTOR.fields:
        if random.random() < 0.35:
            continue
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
            if depth < 5:
                inner = getattr(message, field.name)
                _fill(inner.add() if field.is_repeated else inner, project, depth + 1)
            continue
        is_text = field.cpp_type == FieldDescriptor.CPPTYPE_STRING
        value = random.choice(TEXTS).replace("{p}", project) if is_text else NUMBERS[field.cpp_type]()
        if isinstance(value, str) and field.type == FieldDescriptor.TYPE_BYTES:
            value = value.encode()
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    if "parent" in message.DESCRIPTOR.fields_by_name and random.random() < 0.6:
        setattr(message, "parent", f"projects/{project}")  # noqa: B010  # a message of any type


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


def _methods() -> Iterator[tuple[str, MethodDescriptor]]:
    """Every rpc of every service that an installation has, and the room it lives in."""
    for room in ROOMS:
        for name in SERVICES.get(room, ()):
            import_module(f"turnout.{room}.v1.{_snake(name)}_service_pb2")
            service = descriptor_pool.Default().FindServiceByName(f"turnout.{room}.v1.{name}Service")
            for method in service.methods:
                yield room, method


async def _call(channel: grpc.aio.Channel, method: MethodDescriptor, request: bytes, key: str) -> tuple[str, str]:
    """Send bytes to an rpc of any kind; the code and reason of its refusal, empty if it answered."""
    sends, answers = (
        f"{'stream' if streams else 'unary'}" for streams in (method.client_streaming, method.server_streaming)
    )
    make: Any = getattr(channel, f"{sends}_{answers}")
    rpc = make(f"/{method.containing_service.full_name}/{method.name}", request_serializer=bytes)
    call = rpc(
        iter([request]) if method.client_streaming else request,
        metadata=(("authorization", f"Bearer {key}"),),
        timeout=20,
    )
    try:
        if method.server_streaming:
            async for _ in call:
                pass
        else:
            await call
    except grpc.aio.AioRpcError as failure:
        return failure.code().name, reason_of(failure)
    return "", ""


async def test_garbage_is_refused_with_a_reason_by_every_rpc(
    installation: Installation, shop: Clients, instant_llm: str
) -> None:
    random.seed(1)
    await shop.create_provider("i", instant_llm)
    await shop.create_deployment("agent", "i", prompts=["Hi {{ a }}"])
    failures: Counter[tuple[str, str, str]] = Counter()

    async def call(channel: grpc.aio.Channel, method: MethodDescriptor) -> None:
        request = message_factory.GetMessageClass(method.input_type)()
        _fill(request, shop.project)
        key = random.choice([shop.key, installation.secrets.platform_key])
        failures[method.name, *await _call(channel, method, request.SerializeToString(), key)] += 1

    for room, method in _methods():
        async with grpc.aio.insecure_channel(installation.address(room)) as channel:
            for _ in range(CALLS // AT_ONCE):
                await asyncio.gather(*(call(channel, method) for _ in range(AT_ONCE)))

    failures = Counter({failure: count for failure, count in failures.items() if failure[1]})
    assert sum(failures.values()) > 500
    ours = {"INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "FAILED_PRECONDITION", "ALREADY_EXISTS", "ABORTED"}
    ours.add("RESOURCE_EXHAUSTED")  # uploads, of which only so many run at a time
    assert {failure for failure in failures if failure[1] not in ours or not failure[2]} == set()


async def test_bytes_that_are_no_message_are_refused_with_a_reason_by_every_rpc(
    installation: Installation, shop: Clients
) -> None:
    keys = (installation.secrets.platform_key, installation.secrets.service_key)
    told: Counter[tuple[str, str, str]] = Counter()
    for room, method in _methods():
        async with grpc.aio.insecure_channel(installation.address(room)) as channel:
            for key in keys:
                for garbage, reason in ((b"\xff\xff\xff", "REQUEST_UNREADABLE"), (bytes(6 << 20), "REQUEST_TOO_LARGE")):
                    refusal = await _call(channel, method, garbage, key)
                    assert refusal in {("INVALID_ARGUMENT", reason), ("PERMISSION_DENIED", "SCOPE_MISSING")}, (
                        method.name
                    )
                    told[method.name, *refusal] += 1
            assert await _call(channel, method, b"\xff\xff\xff", "nobody") == ("UNAUTHENTICATED", "KEY_MALFORMED")

    # Each was reached by one of the keys.
    assert {name for name, code, _ in told if code == "INVALID_ARGUMENT"} == {method.name for _, method in _methods()}
    for process in installation.processes:
        assert "DecodeError" not in process.log_path.read_text()
