"""Where the demo plays: a whole Turnout on this machine, a project in it, and ways to call and to show."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import typer

from cli import output
from cli.client import Client
from cli.program import program
from kit.errors import Unavailable
from turnout.analytics.v1 import metrics_service_pb2 as metrics_pb
from turnout.analytics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from turnout.registry.v1 import api_key_pb2, api_key_service_pb2, project_service_pb2
from turnout.registry.v1.api_key_service_pb2_grpc import ApiKeyServiceStub
from turnout.registry.v1.project_service_pb2_grpc import ProjectServiceStub

PROJECT: Final = "demo"
_SCOPES: Final = ["deployments:run", "predict", "registry:read", "registry:write", "keys:admin", "analytics:read"]
_ARRIVAL_SECONDS: Final = 30.0


class Failed(Exception):
    """Something that the demo shows is not so. The text is the end of a sentence."""


@dataclass(slots=True)
class Stage:
    """What the scenes need."""

    folder: Path
    addresses: dict[str, str]
    http_url: str
    """Where the gateway listens: `http://host:port`."""
    llm_url: str
    llm_model: str
    key: str
    """An API key of the project."""
    servers: list[Any]
    began: float = field(default_factory=time.monotonic)

    @property
    def client(self) -> Client:
        """Calls as the project."""
        return Client(self.addresses, self.key, PROJECT)

    def title(self, text: str) -> None:
        """Begin a scene."""
        output.screen.print(f"\n[bold]{text}[/bold] [dim](after {time.monotonic() - self.began:.0f} s)[/dim]")

    def turnout(self, *arguments: str) -> None:
        """Run a command of the command line for everybody to see.

        :raises Failed: if it fails
        """
        output.screen.print(f"[dim]$ {program()} {shlex.join(arguments)}[/dim]", soft_wrap=True)
        sys.stdout.flush()
        environment = {
            **os.environ,
            "TURNOUT_ADDRESS": self.addresses[""],
            "TURNOUT_API_KEY": self.key,
            "TURNOUT_PROJECT": PROJECT,
        }
        command = [*shlex.split(program()), *arguments]
        done = subprocess.run(command, env=environment, check=False)  # noqa: S603  # our own commands
        if done.returncode:
            raise Failed(f"`turnout {arguments[0]}` ended with status {done.returncode}")

    def wait_for_requests(self, count: int) -> metrics_pb.QueryMetricsResponse:
        """What analytics knows once it knows of so many requests, or when it has had half a minute."""
        stub = MetricsServiceStub(self.client.channel("analytics"))
        request = metrics_pb.QueryMetricsRequest(parent=f"projects/{PROJECT}")
        deadline = time.monotonic() + _ARRIVAL_SECONDS
        while True:
            answer: metrics_pb.QueryMetricsResponse = stub.QueryMetrics(request)
            if answer.total.requests >= count or time.monotonic() > deadline:
                return answer
            time.sleep(0.1)

    def watch(self) -> None:
        """Stay until a server ends by itself, or Ctrl-C.

        :raises Unavailable: `SERVER_ENDED`
        """
        while True:
            time.sleep(0.5)
            for server in self.servers:
                if not server.alive():
                    raise Unavailable(
                        f"{server.name} {server.ending}; see {server.log_path}",
                        reason="SERVER_ENDED",
                        server=server.name,
                    )


@contextmanager
def open_stage(root: Path, emptied: Callable[[Path], None]) -> Iterator[Stage]:
    """Start everything below `root` and make a project with a key.

    :param emptied: removes what is in a folder
    """
    try:
        from stack.folder import StackFolder
        from stack.llm import MODEL, Llm
        from stack.nats import Nats
        from stack.postgres import Postgres
        from stack.services import Installation
    except ModuleNotFoundError as missing:
        output.errors.print(f"the embedded stack is not installed ({missing.name} is missing): run `make install`")
        raise typer.Exit(1) from None
    began = time.monotonic()
    output.screen.print("[bold]A whole Turnout on this machine[/bold]")
    with ExitStack() as stack:
        own = stack.enter_context(StackFolder.allocate(root))
        emptied(own.path)
        postgres = _started(stack, "Postgres", Postgres(own.path / "postgres", durable=True))
        nats = _started(stack, "NATS", Nats(own.path / "nats"))
        llm = _started(stack, "a local LLM", Llm(own.path / "llm"))
        installation = _started(
            stack,
            "Turnout: registry, router, executor, inference, analytics, gateway",
            Installation(own.path, mode="all", postgres=postgres, nats=nats),
        )
        addresses = {"": installation.address("executor")}
        admin = Client(addresses, installation.secrets.platform_key, PROJECT)
        yield Stage(
            folder=own.path,
            addresses=addresses,
            http_url=f"http://{installation.http_address}",
            llm_url=llm.base_url,
            llm_model=MODEL,
            key=_project_with_key(admin),
            servers=[postgres, nats, llm, *installation.processes],
            began=began,
        )


def _started(stack: ExitStack, name: str, thing: Any) -> Any:
    output.screen.print(f"  {name} … ", end="")
    began = time.monotonic()
    stack.enter_context(thing)
    output.screen.print(f"{time.monotonic() - began:.1f} s", highlight=False)
    return thing


def _project_with_key(admin: Client) -> str:
    channel = admin.channel("registry")
    ProjectServiceStub(channel).CreateProject(project_service_pb2.CreateProjectRequest(project_id=PROJECT))
    request = api_key_service_pb2.CreateApiKeyRequest(
        parent=admin.parent, api_key=api_key_pb2.ApiKey(display_name="demo", scopes=_SCOPES)
    )
    key: str = ApiKeyServiceStub(channel).CreateApiKey(request).key
    return key
