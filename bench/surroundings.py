"""What a benchmark of calls stands in: Postgres, NATS, a collector, an upstream, and Turnout's services."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc

from bench.cores import running_on
from bench.jobs import ROOT
from stack.nats import Nats
from stack.postgres import Postgres
from stack.server import Launch
from stack.services import Installation, ServiceProcess
from stack.supervisor import Child
from turnout.analytics.v1 import metrics_service_pb2
from turnout.analytics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import (
    api_key_pb2,
    api_key_service_pb2,
    deployment_pb2,
    deployment_service_pb2,
    project_service_pb2,
    provider_pb2,
    provider_service_pb2,
)
from turnout.registry.v1.api_key_service_pb2_grpc import ApiKeyServiceStub
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from turnout.registry.v1.project_service_pb2_grpc import ProjectServiceStub
from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceStub

if TYPE_CHECKING:
    # These exist for type checkers only.
    from turnout.analytics.v1.metrics_service_pb2_grpc import MetricsServiceAsyncStub
    from turnout.registry.v1.api_key_service_pb2_grpc import ApiKeyServiceAsyncStub
    from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceAsyncStub
    from turnout.registry.v1.project_service_pb2_grpc import ProjectServiceAsyncStub
    from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceAsyncStub

SYSTEM: Final = "You are an expert on {{ country }}. Answer questions in {{ language }}."
QUESTION: Final = "Any customs I should be mindful about at the dinner table?"
VARIABLES: Final = {"country": "France", "language": "English"}
DEPLOYMENT: Final = "bench"
WEIGHTS: Final = (90, 10)
ON: Final = "auth, routing, templates, spool, JetStream, payloads, 10 % traces; analytics off while timed"

_STILL_SECONDS: Final = 10.0
"""Events that do not come within it, while nothing else comes, do not come."""
_SURPLUS_SECONDS: Final = 1.0
"""How long to look for events beyond those that were expected."""


@dataclass(frozen=True, slots=True)
class Furnished:
    """What callers need to know."""

    key: str
    """Of the project; may run deployments."""
    sequence: str
    """The `turnout-sequence` from which on everybody knows the deployment and the key."""


class Grouped(Installation):
    """An installation whose services share processes as told; only those named run.

    :param cores: what a group's process is kept to, by one of its services
    """

    def __init__(
        self,
        folder: Path,
        groups: Sequence[Sequence[str]],
        *,
        postgres: Postgres,
        nats: Nats,
        extra: Mapping[str, str],
        cores: Mapping[str, frozenset[int]] | None = None,
    ) -> None:
        super().__init__(folder, mode="all", postgres=postgres, nats=nats)
        self.processes = [
            _Kept(self.folder / "-".join(group), group, next((cores[name] for name in group if name in cores), None))
            if cores
            else ServiceProcess(self.folder / "-".join(group), group, {})
            for group in groups
        ]
        for process, group in zip(self.processes, groups, strict=True):
            # A service in the same process is called there, unless it has an address.
            others = {name: self.address(name) for other in groups if other is not group for name in other}
            process.environment = self._environment(process, others) | dict(extra)


class _Kept(ServiceProcess):
    """A process that is kept to some cores."""

    def __init__(self, folder: Path, names: Sequence[str], cores: frozenset[int] | None) -> None:
        super().__init__(folder, names, {})
        self._cores = cores

    def _run(self, launch: Launch) -> Child:
        if self._cores is None:
            return super()._run(launch)
        with running_on(self._cores):
            return super()._run(launch)


class Surroundings:
    """All that runs around what is measured. Made by :func:`surroundings`."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self.folder = folder
        self.postgres = stack.enter_context(Postgres(folder / "postgres"))
        self.nats = stack.enter_context(Nats(folder / "nats"))
        self.otlp = ""
        """Where spans go, once there is an installation."""

    def database(self, name: str) -> str:
        """Make a database of this name; its URL."""
        self.postgres.create_database(name)
        return self.postgres.url(name).replace("postgresql+asyncpg", "postgresql", 1)

    def program(self, module: str, *arguments: str) -> dict[str, Any]:
        """Start one of our modules; what it says of itself in its first line.

        :raises RuntimeError: if it does not start
        """
        log = self.folder / f"{module}.log"
        child = Child.start(
            [sys.executable, "-m", module, *arguments],
            env=clean_environment(),
            cwd=self.folder,
            log_path=log,
        )
        self._stack.callback(child.stop)
        deadline = time.monotonic() + 20
        while not (log.exists() and "\n" in log.read_text()):
            if time.monotonic() > deadline or not child.alive():
                raise RuntimeError(f"{module} did not start: {log.read_text() if log.exists() else ''}")
            time.sleep(0.02)
        said: dict[str, Any] = json.loads(log.read_text().splitlines()[0])
        return said

    def installation(
        self,
        groups: Sequence[Sequence[str]],
        *,
        settings: Sequence[str] = (),
        cores: Mapping[str, frozenset[int]] | None = None,
    ) -> Installation:
        """Turnout, with everything on; analytics, a group of its own, is stopped once it has started.

        :param settings: `NAME=VALUE`, over those of a benchmark
        """
        collector = self.program("bench.collector")
        self.otlp = f"http://{collector['address']}"
        extra = {"TURNOUT_OTLP_ENDPOINT": self.otlp, "TURNOUT_TRACE_SAMPLE_RATIO": "0.1"}
        extra |= dict(pair.split("=", 1) for pair in settings)
        installation = Grouped(
            self.folder / "installation", groups, postgres=self.postgres, nats=self.nats, extra=extra, cores=cores
        )
        self._stack.enter_context(installation)
        installation.process("analytics").stop()
        return installation


@contextmanager
def surroundings() -> Iterator[Surroundings]:
    """A folder, Postgres and NATS; all that is started in it ends with it."""
    with tempfile.TemporaryDirectory(prefix="turnout-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        # Postgres runs as another user.
        folder.chmod(0o755)
        yield Surroundings(stack, folder)


def clean_environment() -> dict[str, str]:
    """This process's, less the settings of Turnout, plus where our modules are."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
    return kept | {"PYTHONPATH": str(ROOT)}


async def furnish(installation: Installation, base_url: str) -> Furnished:
    """A project `bench` with a provider, a deployment of two variants, and a key."""
    metadata = (("authorization", f"Bearer {installation.secrets.platform_key}"),)
    async with grpc.aio.insecure_channel(installation.address("registry")) as channel:
        projects: ProjectServiceAsyncStub = ProjectServiceStub(channel)
        providers: ProviderServiceAsyncStub = ProviderServiceStub(channel)
        deployments: DeploymentServiceAsyncStub = DeploymentServiceStub(channel)
        keys: ApiKeyServiceAsyncStub = ApiKeyServiceStub(channel)
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
        for weight in WEIGHTS:
            version = deployment.variants.add(weight=weight).completion.new_version
            version.provider, version.model = "instant", "bench-model"
            version.parameters.temperature = weight / 100
            version.messages.add(role=message_pb2.ROLE_SYSTEM, content=SYSTEM)
        await deployments.CreateDeployment(
            deployment_service_pb2.CreateDeploymentRequest(
                parent="projects/bench", deployment_id=DEPLOYMENT, deployment=deployment
            ),
            metadata=metadata,
        )
        call = keys.CreateApiKey(
            api_key_service_pb2.CreateApiKeyRequest(
                parent="projects/bench",
                api_key=api_key_pb2.ApiKey(display_name="callers", scopes=["deployments:run"]),
            ),
            metadata=metadata,
        )
        made = await call
        return Furnished(made.key, str(dict(await call.trailing_metadata() or ())["turnout-sequence"]))


async def count_events(installation: Installation, sequence: str, expected: int) -> int:
    """Start analytics; how many calls it counts in the end: neither more nor fewer than there were, if none was lost or
    doubled."""
    await asyncio.to_thread(installation.process("analytics").start)
    metadata = (("authorization", f"Bearer {installation.secrets.platform_key}"), ("turnout-sequence", sequence))
    async with grpc.aio.insecure_channel(installation.address("analytics")) as channel:
        stub: MetricsServiceAsyncStub = MetricsServiceStub(channel)
        request = metrics_service_pb2.QueryMetricsRequest(parent="projects/bench")
        known, last_growth = -1, time.monotonic()
        while time.monotonic() - last_growth < (_STILL_SECONDS if known < expected else _SURPLUS_SECONDS):
            answer = await stub.QueryMetrics(request, metadata=metadata, timeout=20)
            if answer.total.requests != known:
                known, last_growth = answer.total.requests, time.monotonic()
            await asyncio.sleep(0.2)
        return known
