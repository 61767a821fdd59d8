"""gRPC `Run` against an instant upstream: `make bench`.

What is on: authentication, routing, template rendering, events to the spool and on to JetStream, payload capture,
10 % traces to a collector that discards them. What is off: streaming, caching. Upstream, registry, NATS, Postgres and
the callers are processes of their own; the executor is one process. Analytics is stopped while calls are timed (it is
another machine's work) and started afterwards to count what arrived: a call that failed or an event that is missing or
doubled fails the run.

Two things are measured beside it in the same run: the same request straight to the upstream with aiohttp (so that
"added" latency is a difference within one run), and an empty grpc.aio call (what Python's gRPC costs by itself).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import grpc
import psutil
import uvloop

from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation
from stack.supervisor import Child
from turnout.analytics.v1 import metrics_service_pb2
from turnout.analytics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1.execution_service_pb2_grpc import ExecutionServiceStub
from turnout.registry.v1 import (
    deployment_pb2,
    deployment_service_pb2,
    project_service_pb2,
    provider_pb2,
    provider_service_pb2,
)
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from turnout.registry.v1.project_service_pb2_grpc import ProjectServiceStub
from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceStub

if TYPE_CHECKING:
    # These exist for type checkers only.
    from turnout.analytics.v1.metrics_service_pb2_grpc import MetricsServiceAsyncStub
    from turnout.executor.v1.execution_service_pb2_grpc import ExecutionServiceAsyncStub
    from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceAsyncStub
    from turnout.registry.v1.project_service_pb2_grpc import ProjectServiceAsyncStub
    from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceAsyncStub

ROOT: Final = Path(__file__).resolve().parents[1]
SYSTEM: Final = "You are an expert on {{ country }}. Answer questions in {{ language }}."
QUESTION: Final = "Any customs I should be mindful about at the dinner table?"
VARIABLES: Final = '{"country":"France","language":"English"}'
CONCURRENCIES: Final = (1, 10, 50)


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured at one concurrency."""

    name: str
    concurrency: int
    calls: int
    seconds: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """CPU of the serving process for one call."""
    rss_mb: float


Call = Callable[[], Awaitable[None]]


async def load(name: str, call: Call, process: psutil.Process, *, concurrency: int, seconds: float) -> Row:
    """Call in a closed loop; any exception of `call` fails the run."""
    latencies: list[float] = []
    end = 0.0

    async def caller() -> None:
        while (began := time.perf_counter()) < end:
            await call()
            latencies.append(time.perf_counter() - began)

    end = time.perf_counter() + seconds / 5
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    latencies.clear()
    before, began = _cpu_seconds(process), time.perf_counter()
    end = began + seconds
    await asyncio.gather(*(caller() for _ in range(concurrency)))
    elapsed, cpu = time.perf_counter() - began, _cpu_seconds(process) - before
    latencies.sort()
    return Row(
        name,
        concurrency,
        len(latencies),
        elapsed,
        latencies[len(latencies) // 2] * 1000,
        latencies[int(len(latencies) * 0.99)] * 1000,
        cpu / len(latencies) * 1000,
        process.memory_info().rss / 1e6,
    )


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


class Counted:
    """A client of `Run` that counts its calls."""

    def __init__(self, address: str, key: str, deployment: str, sequence: str) -> None:
        options = (("grpc.use_local_subchannel_pool", 1),)
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(4)]
        stubs: list[ExecutionServiceAsyncStub] = [ExecutionServiceStub(channel) for channel in self._channels]
        self._stubs = stubs
        self._metadata = (("authorization", f"Bearer {key}"), ("turnout-sequence", sequence))
        self._request = pb.RunRequest(deployment=deployment, variables_json=VARIABLES)
        self._request.messages.add(role=message_pb2.ROLE_USER, content=QUESTION)
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        stub = self._stubs[self.calls % len(self._stubs)]
        answer = await stub.Run(self._request, metadata=self._metadata, timeout=30)
        if not answer.message.content:
            raise AssertionError("an answer is empty")

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close()


async def furnish(installation: Installation, base_url: str) -> str:
    """A deployment with two variants; the `turnout-sequence` after which executors know it."""
    metadata = (("authorization", f"Bearer {installation.secrets.platform_key}"),)
    async with grpc.aio.insecure_channel(installation.address("registry")) as channel:
        projects: ProjectServiceAsyncStub = ProjectServiceStub(channel)
        providers: ProviderServiceAsyncStub = ProviderServiceStub(channel)
        deployments: DeploymentServiceAsyncStub = DeploymentServiceStub(channel)
        await projects.CreateProject(project_service_pb2.CreateProjectRequest(project_id="bench"), metadata=metadata)
        kind = provider_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE
        await providers.CreateProvider(
            provider_service_pb2.CreateProviderRequest(
                parent="projects/bench",
                provider_id="instant",
                provider=provider_pb2.Provider(kind=kind, base_url=base_url, credential="sk-bench"),
            ),
            metadata=metadata,
        )
        deployment = deployment_pb2.Deployment(kind=deployment_pb2.DEPLOYMENT_KIND_COMPLETION)
        for weight in (90, 10):
            version = deployment.variants.add(weight=weight).completion.new_version
            version.provider, version.model = "instant", "bench-model"
            version.parameters.temperature = weight / 100
            version.messages.add(role=message_pb2.ROLE_SYSTEM, content=SYSTEM)
        request = deployment_service_pb2.CreateDeploymentRequest(
            parent="projects/bench", deployment_id="bench", deployment=deployment
        )
        call = deployments.CreateDeployment(request, metadata=metadata)
        await call
        return str(dict(await call.trailing_metadata())["turnout-sequence"])


async def count_events(installation: Installation, sequence: str, expected: int) -> int:
    """How many requests analytics knows, once it knows `expected` or has stopped to grow."""
    metadata = (("authorization", f"Bearer {installation.secrets.platform_key}"), ("turnout-sequence", sequence))
    async with grpc.aio.insecure_channel(installation.address("analytics")) as channel:
        stub: MetricsServiceAsyncStub = MetricsServiceStub(channel)
        known, last_growth = -1, time.monotonic()
        while time.monotonic() - last_growth < 10:
            answer = await stub.QueryMetrics(
                metrics_service_pb2.QueryMetricsRequest(parent="projects/bench"), metadata=metadata, timeout=20
            )
            if answer.total.requests != known:
                known, last_growth = answer.total.requests, time.monotonic()
            if known >= expected:
                break
            await asyncio.sleep(0.2)
        return known


async def direct(session: aiohttp.ClientSession, base_url: str) -> Call:
    """The same question straight to the upstream."""
    body = json.dumps(
        {
            "model": "bench-model",
            "temperature": 0.9,
            "messages": [
                {
                    "role": "system",
                    "content": SYSTEM.replace("{{ country }}", "France").replace("{{ language }}", "English"),
                },
                {"role": "user", "content": QUESTION},
            ],
        }
    ).encode()

    async def call() -> None:
        async with session.post(
            f"{base_url}/chat/completions", data=body, headers={"content-type": "application/json"}
        ) as r:
            if r.status != 200 or not json.loads(await r.read())["choices"]:
                raise AssertionError("the upstream failed")

    return call


async def empty_grpc(address: str) -> tuple[Call, grpc.aio.Channel]:
    """A call that does nothing."""
    channel = grpc.aio.insecure_channel(address)
    stub: ExecutionServiceAsyncStub = ExecutionServiceStub(channel)
    request = pb.RunRequest()

    async def call() -> None:
        await stub.Run(request)

    return call, channel


async def measure(
    installation: Installation, upstream: str, empty: tuple[str, int], seconds: float, profile: Path | None
) -> tuple[list[Row], int, str]:
    """All rows, how many calls of `Run` were made, and the catalog's sequence that they needed."""
    rows: list[Row] = []
    sequence = await furnish(installation, upstream)
    executor = psutil.Process(installation.process("executor").pid)
    client = Counted(installation.address("executor"), installation.secrets.platform_key, _TARGET, sequence)
    async with aiohttp.ClientSession() as session:
        call = await direct(session, upstream)
        for concurrency in CONCURRENCIES:
            row = await load("direct", call, psutil.Process(), concurrency=concurrency, seconds=seconds / 2)
            rows.append(row)  # one after the other is the point
    call, channel = await empty_grpc(empty[0])
    rows.append(await load("empty grpc.aio", call, psutil.Process(empty[1]), concurrency=10, seconds=seconds / 2))
    await channel.close()
    await client()
    for concurrency in CONCURRENCIES:
        recorder = _profile(executor.pid, profile, seconds) if profile and concurrency == 10 else None
        rows.append(await load("Run", client, executor, concurrency=concurrency, seconds=seconds))
        if recorder is not None:
            await asyncio.to_thread(recorder.wait)
    await client.close()
    return rows, client.calls, sequence


_TARGET: Final = "projects/bench/deployments/bench"


def _profile(pid: int, target: Path, seconds: float) -> subprocess.Popen[bytes]:
    py_spy = Path(sys.executable).parent / "py-spy"
    duration = str(max(1, int(seconds)))
    return subprocess.Popen(
        [py_spy, "record", "--pid", str(pid), "--format", "raw", "--duration", duration, "--output", target],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def main() -> int:
    """Measure and print; 1 if a call failed or an event is missing or doubled."""
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=10, help="how long each concurrency is timed (default 10)")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    parser.add_argument("--profile", type=Path, help="write py-spy stacks of the executor at concurrency 10 here")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting to try; not the default run"
    )
    options = parser.parse_args()
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="turnout-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        postgres = stack.enter_context(Postgres(folder / "postgres"))
        nats = stack.enter_context(Nats(folder / "nats"))
        collector = _child(stack, folder, "bench.collector")
        upstream = _child(stack, folder, "bench.upstream", "--port", "0")
        empty = _child(stack, folder, "bench.empty")
        extra = {"TURNOUT_OTLP_ENDPOINT": f"http://{collector['address']}", "TURNOUT_TRACE_SAMPLE_RATIO": "0.1"}
        extra |= dict(pair.split("=", 1) for pair in options.set)
        installation = stack.enter_context(
            Installation(folder / "installation", mode="split", postgres=postgres, nats=nats, extra=extra)
        )
        installation.process("analytics").stop()
        base_url = f"http://{upstream['address']}/v1"
        rows, calls, sequence = uvloop.run(
            measure(
                installation,
                base_url,
                (empty["address"], empty["pid"]),
                options.seconds,
                options.profile,
            )
        )
        installation.process("analytics").start()
        events = asyncio.run(count_events(installation, sequence, calls))
        report(rows, calls, events, options.set)
        if options.json:
            options.json.write_text(json.dumps([{name: getattr(row, name) for name in Row.__slots__} for row in rows]))
        installation.stop()
    return 0 if events == calls else 1


def _child(stack: ExitStack, folder: Path, module: str, *arguments: str) -> dict[str, Any]:
    log = folder / f"{module}.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
    child = Child.start(
        [sys.executable, "-m", module, *arguments],
        env=environment | {"PYTHONPATH": str(ROOT)},
        cwd=folder,
        log_path=log,
    )
    stack.callback(child.stop)
    deadline = time.monotonic() + 20
    while not (log.exists() and "\n" in log.read_text()):
        if time.monotonic() > deadline or not child.alive():
            raise RuntimeError(f"{module} did not start: {log.read_text() if log.exists() else ''}")
        time.sleep(0.02)
    started: dict[str, Any] = json.loads(log.read_text().splitlines()[0])
    return started


def report(rows: Sequence[Row], calls: int, events: int, settings: Sequence[str]) -> None:
    """A table for people."""
    base = {row.concurrency: row for row in rows if row.name == "direct"}
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    print("on: auth, routing, templates, spool, JetStream, payloads, 10 % traces; analytics off while timed")
    print(f"differently from that: {', '.join(settings)}\n" if settings else "")
    heads = ("at once", "calls/s", "p50 ms", "p99 ms", "added p50", "added p99", "CPU ms", "RSS MB")
    print(f"{'':16}" + "".join(f"{head:>11}" for head in heads))
    for row in rows:
        added = ("", "")
        if row.name == "Run":
            direct_row = base[row.concurrency]
            added = (f"{row.p50_ms - direct_row.p50_ms:.2f}", f"{row.p99_ms - direct_row.p99_ms:.2f}")
        print(
            f"{row.name:16}{row.concurrency:>11}{row.calls / row.seconds:>11.0f}{row.p50_ms:>11.2f}{row.p99_ms:>11.2f}"
            f"{added[0]:>11}{added[1]:>11}{row.cpu_ms:>11.2f}{row.rss_mb:>11.0f}"
        )
    print(f"\n{calls} calls, none failed; {events} events counted by analytics", end="")
    print("" if calls == events else " — THEY DIFFER")


if __name__ == "__main__":
    sys.exit(main())
