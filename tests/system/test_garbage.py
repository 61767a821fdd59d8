"""Random nonsense to every rpc: a clear status with a reason each time, never INTERNAL, and nothing hangs."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from kit.status import reason_of
from stack.services import Installation
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
    "registry": ("Project", "Provider", "Version", "Deployment", "ApiKey"),
    "executor": ("Execution",),
    "analytics": ("Metrics", "Log"),
}


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
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    if "parent" in message.DESCRIPTOR.fields_by_name and random.random() < 0.6:
        setattr(message, "parent", f"projects/{project}")  # noqa: B010  # a message of any type


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()


async def test_garbage_is_refused_with_a_reason_by_every_rpc(
    installation: Installation, shop: Clients, instant_llm: str
) -> None:
    random.seed(1)
    await shop.create_provider("i", instant_llm)
    await shop.create_deployment("agent", "i", prompts=["Hi {{ a }}"])
    failures: Counter[tuple[str, str, str]] = Counter()

    async def call(method: Any, rpc: Any) -> None:
        request = message_factory.GetMessageClass(method.input_type)()
        _fill(request, shop.project)
        key = random.choice([shop.key, installation.secrets.platform_key])
        try:
            await rpc(request, metadata=(("authorization", f"Bearer {key}"),), timeout=20)
        except grpc.aio.AioRpcError as failure:
            failures[method.name, failure.code().name, reason_of(failure)] += 1

    for room, names in SERVICES.items():
        async with grpc.aio.insecure_channel(installation.address(room)) as channel:
            for name in names:
                import_module(f"turnout.{room}.v1.{_snake(name)}_service_pb2")
                service = descriptor_pool.Default().FindServiceByName(f"turnout.{room}.v1.{name}Service")
                for method in service.methods:
                    answer = message_factory.GetMessageClass(method.output_type)
                    rpc: Any = channel.unary_unary(
                        f"/{service.full_name}/{method.name}",
                        request_serializer=lambda request: request.SerializeToString(),
                        response_deserializer=answer.FromString,
                    )
                    for _ in range(CALLS // AT_ONCE):
                        await asyncio.gather(*(call(method, rpc) for _ in range(AT_ONCE)))

    assert sum(failures.values()) > 500
    ours = {"INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "FAILED_PRECONDITION", "ALREADY_EXISTS"}
    assert {failure for failure in failures if failure[1] not in ours or not failure[2]} == set()
