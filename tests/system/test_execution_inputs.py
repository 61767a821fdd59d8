"""What a caller gets wrong is told precisely, and before any provider is asked."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from kit import status
from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation
from tests.system.clients import Clients, tenant
from tests.system.processes import faulty, installed
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_pb2, execution_service_pb2
from turnout.registry.v1 import deployment_pb2, deployment_service_pb2, version_pb2

pytestmark = pytest.mark.slow

FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
OTHER_FORMAT = json.loads(json.dumps(FORMAT).replace('"string"', '"integer"'))
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
DECLARED = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}}}
GOOD = {"variables_json": '{"name": "Ada", "age": 36}'}


@pytest.fixture(scope="module")
def upstream(open_folder: Path) -> Iterator[str]:
    with faulty(open_folder / f"inputs-{uuid.uuid4().hex[:8]}") as address:
        yield address


@pytest.fixture(scope="module")
def running(open_folder: Path, postgres: Postgres) -> Iterator[Installation]:
    with (
        Nats(open_folder / f"nats-{uuid.uuid4().hex[:8]}") as nats,
        installed(open_folder, postgres, nats, "all") as installation,
    ):
        yield installation


@pytest.fixture
async def shop(running: Installation, upstream: str) -> AsyncIterator[Clients]:
    """A tenant whose deployment wants variables and answers JSON."""
    async with tenant(running) as clients:
        await clients.create_provider("any", f"{upstream}/v1", "sk-any")
        deployment = deployment_pb2.Deployment(kind=deployment_pb2.DEPLOYMENT_KIND_COMPLETION)
        version = deployment.variants.add(display_name="one", weight=100).completion.new_version
        version.provider, version.model = "any", "ok"
        version.messages.add(role=message_pb2.ROLE_SYSTEM, content="{{ name }} is {{ age }} and likes {{ hobby.kind }}")
        version.variables_schema_json = json.dumps(DECLARED)
        version.response_format_json, version.tools_json = json.dumps(FORMAT), json.dumps([TOOL])
        request = deployment_service_pb2.CreateDeploymentRequest(
            parent=clients.parent, deployment_id="agent", deployment=deployment
        )
        await clients.write(clients.deployments.CreateDeployment, request)
        await clients.run("agent", mock_response="It is known here.", **_overrides())
        yield clients


def _overrides(**fields: Any) -> dict[str, Any]:
    variables = '{"name": "Ada", "age": 36, "hobby": {"kind": "maths"}}'
    return {"variables_json": variables, "overrides": execution_service_pb2.Overrides(**fields)}


def _parameters(**fields: Any) -> dict[str, Any]:
    return _overrides(parameters=version_pb2.Parameters(**fields))


@dataclass(frozen=True)
class Mistake:
    """What is called, and what must be said."""

    call: dict[str, Any]
    reason: str
    words: tuple[str, ...]
    code: grpc.StatusCode = grpc.StatusCode.INVALID_ARGUMENT


MISTAKES = {
    "all variables missing": Mistake({}, "MISSING_VARIABLES", ("name", "age", "hobby")),
    "one variable missing": Mistake(GOOD, "MISSING_VARIABLES", ("hobby",)),
    "half a variable missing": Mistake(
        {"variables_json": '{"name": "Ada", "age": 36, "hobby": {}}'}, "MISSING_VARIABLES", ("hobby.kind",)
    ),
    "a variable of the wrong type": Mistake(
        {"variables_json": '{"name": "Ada", "age": "old", "hobby": {"kind": "maths"}}'}, "VARIABLES_", ("age",)
    ),
    "variables that are no JSON": Mistake({"variables_json": "{"}, "JSON_", ("variables_json",)),
    "variables that are a list": Mistake({"variables_json": "[]"}, "JSON_", ("variables_json",)),
    "variables that are too many": Mistake(
        {"variables_json": json.dumps({"name": "x" * 300_000})}, "JSON_", ("variables_json",)
    ),
    "metadata that is no object": Mistake(GOOD | {"metadata_json": "1"}, "JSON_", ("metadata_json",)),
    "another response format": Mistake(
        _overrides(response_format_json=json.dumps(OTHER_FORMAT)),
        "CONTRACT_BROKEN",
        ("city",),
        grpc.StatusCode.FAILED_PRECONDITION,
    ),
    "a response format of no kind": Mistake(
        _overrides(response_format_json='{"type": "poem"}'), "RESPONSE_FORMAT_MALFORMED", ("response_format.type",)
    ),
    "a response format that is no JSON": Mistake(
        _overrides(response_format_json="{"), "JSON_", ("overrides.response_format_json",)
    ),
    "an unknown tool choice": Mistake(
        _overrides(tool_choice_json='"perhaps"'), "VERSION_INVALID", ("overrides.tool_choice",)
    ),
    "a choice of a tool that is not there": Mistake(
        _overrides(tool_choice_json='{"type": "function", "function": {"name": "find"}}'),
        "VERSION_INVALID",
        ("overrides.tool_choice.function.name", "look"),
    ),
    "a tool choice of an unknown type": Mistake(
        _overrides(tool_choice_json='{"type": "foo"}'), "VERSION_INVALID", ("overrides.tool_choice.type",)
    ),
    "a tool that is demanded of none": Mistake(
        _overrides(tools_json="[]", tool_choice_json='"required"'), "VERSION_INVALID", ("overrides.tool_choice",)
    ),
    "many answers": Mistake(_parameters(extra_json='{"n": 3}'), "VERSION_INVALID", ("overrides.parameters.extra.n",)),
    "the source of a simulation": Mistake(
        _overrides() | {"source": execution_pb2.SOURCE_SIMULATOR}, "INVALID_REQUEST", ("source",)
    ),
    "tools that are no list": Mistake(_overrides(tools_json="{}"), "JSON_OF_WRONG_KIND", ("overrides.tools_json",)),
    "too hot": Mistake(_parameters(temperature=2.5), "INVALID_REQUEST", ("overrides.parameters.temperature",)),
    "a top_p of nothing": Mistake(_parameters(top_p=-0.1), "INVALID_REQUEST", ("overrides.parameters.top_p",)),
    "no output at all": Mistake(
        _parameters(max_output_tokens=0), "INVALID_REQUEST", ("overrides.parameters.max_output_tokens",)
    ),
    "extra parameters that are no object": Mistake(
        _parameters(extra_json="[]"), "JSON_", ("overrides.parameters.extra_json",)
    ),
    "no time": Mistake(_overrides() | {"timeout": 1e-6}, "", (), grpc.StatusCode.DEADLINE_EXCEEDED),
}


@pytest.mark.parametrize("name", MISTAKES)
async def test_a_mistake_is_told_precisely_and_no_provider_is_asked(name: str, shop: Clients, upstream: str) -> None:
    mistake = MISTAKES[name]
    call = dict(mistake.call)
    timeout = call.pop("timeout", 20.0)
    request = execution_service_pb2.RunRequest(deployment="agent", **call)
    request.messages.add(role=message_pb2.ROLE_USER, content="Hello")
    before = _asked(upstream)

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await shop.executions.Run(request, metadata=shop.metadata(), timeout=timeout)
    streamed = execution_service_pb2.RunStreamRequest(run=request)
    with pytest.raises(grpc.aio.AioRpcError) as broken:
        async for _ in shop.executions.RunStream(streamed, metadata=shop.metadata(), timeout=timeout):
            pass

    for error in (failure.value, broken.value):
        assert error.code() is mistake.code, error.details()
        told = status.from_rpc_error(error, peer="turnout")
        said = f"{told.message} {[each.field for each in told.violations]}"
        print(f"{name}: {status.reason_of(error)} {said}")
        assert status.reason_of(error).startswith(mistake.reason)
        assert [word for word in mistake.words if word not in said] == []
    assert _asked(upstream) == before


async def test_the_same_call_without_a_mistake_is_answered(shop: Clients, upstream: str) -> None:
    before = _asked(upstream)

    answer = await shop.run("agent", **_overrides(parameters=version_pb2.Parameters(temperature=0.5)))

    assert answer.message.content
    assert _asked(upstream) == before + 1


def _asked(address: str) -> int:
    with urllib.request.urlopen(f"{address}/stats", timeout=5) as answer:
        calls: int = json.load(answer)["calls"]
    return calls
