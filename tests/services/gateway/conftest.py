"""The room behind its real socket; a scripted registry and a scripted executor are its only peers.

Every test runs twice: with the executor in this process, and with it behind a socket of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import openai
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from kit.interceptors import Auth, Chain, Validation
from kit.server import Server, ServerOptions
from kit.telemetry import Tracing
from services.gateway.listener import Listener
from services.gateway.module import listener, module
from tests.services import scripted_registry
from tests.services.gateway.executors import ScriptedExecutor
from tests.services.scripted_registry import Following, Gate, deployment_entry, key_entry, project_entry, variant
from turnout.executor.v1 import execution_service_pb2_grpc as rpc
from turnout.registry.v1 import deployment_pb2

MODEL = "turnout/deployment/assistant"
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]


@dataclass
class Room:
    """A running gateway and what a test needs around it."""

    listener: Listener
    executor: ScriptedExecutor
    process: Following
    key: str
    http: aiohttp.ClientSession
    tracing: Tracing
    spans: InMemorySpanExporter

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.port}"

    def client(self, **options: Any) -> openai.AsyncOpenAI:
        options.setdefault("api_key", self.key)
        options.setdefault("max_retries", 0)
        return openai.AsyncOpenAI(base_url=f"{self.url}/v1", **options)

    def blocking_client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, **options)

    async def post(
        self, body: Any = None, *, headers: dict[str, str] | None = None, **fields: Any
    ) -> tuple[int, dict[str, str], Any]:
        """A plain request: status, headers and the parsed body."""
        if body is None:
            body = {"model": MODEL, "messages": MESSAGES, **fields}
        if not isinstance(body, bytes):
            body = _dump(body)
        given = {"Authorization": f"Bearer {self.key}"} if headers is None else headers
        async with self.http.post(f"{self.url}/v1/chat/completions", data=body, headers=given) as response:
            found = {name.lower(): value for name, value in response.headers.items()}
            return response.status, found, await response.json(content_type=None)

    async def refusal(self, *args: Any, **fields: Any) -> tuple[int, Any]:
        """Status and error of a request that must fail."""
        status, _, body = await self.post(*args, **fields)
        return status, body["error"]


def _dump(body: Any) -> bytes:
    import orjson

    return orjson.dumps(body)


@asynccontextmanager
async def running(kind: str, *, sample_ratio: float = 0, serves: bool = True) -> AsyncIterator[Room]:
    """A gateway, its executor in this process (`local`), behind a socket (`tcp`), or where nothing listens (`away`).

    :param serves: False leaves it to the test to run the process
    """
    key, entry = key_entry("deployments:run")
    entries = (
        entry,
        project_entry("prj_shop", "shop"),
        project_entry("prj_other", "other"),
        deployment_entry("zoo", variant(), aliases=("live", "production#1", "beta")),
        deployment_entry("assistant", variant()),
        deployment_entry("draft", variant(), aliases=("beta",)),
        deployment_entry("films", variant(model="mod_1"), kind=deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION),
        deployment_entry("foreign", variant(), project="prj_other"),
    )
    spans = InMemorySpanExporter()
    tracing = Tracing(sample_ratio=sample_ratio, resource={}, exporter=spans)
    executor, gate = ScriptedExecutor(), Gate()
    options = ServerOptions("127.0.0.1:0", 1000, 300, 0.2, shares_port=False)
    elsewhere = Server(Chain(tracing, (Auth(gate), Validation())), options)
    async with AsyncExitStack() as stack:
        stack.callback(tracing.shutdown)
        if kind == "tcp":
            rpc.add_ExecutionServiceServicer_to_server(executor, elsewhere.registrar)
            await elsewhere.start()
            stack.push_async_callback(elsewhere.stop)
        services, peers = {
            "local": (("executor", "gateway"), {}),
            "tcp": (("gateway",), {"executor": f"127.0.0.1:{elsewhere.port}"}),
            "away": (("gateway",), {"executor": "127.0.0.1:1"}),
        }[kind]
        process = await stack.enter_async_context(
            scripted_registry.following(*entries, services=services, peers=peers, tracing=tracing, gate=gate)
        )
        if kind == "local":
            rpc.add_ExecutionServiceServicer_to_server(executor, process.server.registrar)
        await process.runtime.enter(module)
        if serves:
            await scripted_registry.serve(process)
            stack.push_async_callback(process.server.stop)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Room(await process.runtime.shared(listener), executor, process, key, http, tracing, spans)


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TURNOUT_SERVICE_KEY", scripted_registry.SERVICE_KEY)
    monkeypatch.setenv("TURNOUT_GATEWAY_LISTEN_ADDRESS", "127.0.0.1:0")
    monkeypatch.setenv("NO_PROXY", "*")
    return monkeypatch


@pytest.fixture(params=["local", "tcp"])
async def room(request: pytest.FixtureRequest, environment: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    async with running(request.param) as room:
        yield room


@pytest.fixture
async def local_room(environment: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    """For what ends before the executor is called."""
    async with running("local") as room:
        yield room


@pytest.fixture(params=["local", "tcp"])
async def traced_room(request: pytest.FixtureRequest, environment: pytest.MonkeyPatch) -> AsyncIterator[Room]:
    async with running(request.param, sample_ratio=1) as room:
        yield room


@pytest.fixture
def start_room(environment: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Starts a room once a test has set its environment."""
    return lambda kind="local", **options: running(kind, **options)
