"""`turnout up`: a whole Turnout on this machine, ready to be called."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer

from cli import client as cli_client
from cli import output
from cli.client import Client, failures_for_people
from kit.errors import AppError, Unavailable
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

PROJECT: Final = "demo"
DEPLOYMENT: Final = "travel-assistant"
_SCOPES: Final = ["deployments:run", "registry:read", "registry:write", "keys:admin", "analytics:read"]
_PROMPTS: Final = {
    "Plain": "You are an expert on {{ country }}. Answer in {{ language }}, in one short sentence.",
    "Warm": "You are a warm and curious guide to {{ country }}. Answer in {{ language }}, in one short sentence.",
}
_WEIGHTS: Final = {"Plain": 90, "Warm": 10}


def up(
    split: Annotated[
        bool, typer.Option("--split", help="One process for each service instead of one for all.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="How many processes share each port.")] = 1,
    folder: Annotated[Path, typer.Option(help="Where data lie: its first free subfolder 0, 1, 2 ….")] = Path(
        ".turnout"
    ),
) -> None:
    """Start Postgres, NATS, a local LLM and all services; make a project, a key and a deployment; run until Ctrl-C.

    Data stay below the folder and are found again by the next start.
    """
    try:
        from stack.folder import StackFolder
        from stack.llm import MODEL, Llm
        from stack.nats import Nats
        from stack.postgres import Postgres
        from stack.services import Installation, Mode
    except ModuleNotFoundError as missing:
        output.errors.print(f"the embedded stack is not installed ({missing.name} is missing): run `make install`")
        raise typer.Exit(1) from None

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    try:
        with ExitStack() as stack:
            own = stack.enter_context(StackFolder.allocate(folder))
            postgres = _started(stack, "Postgres", Postgres(own.path / "postgres", durable=True))
            nats = _started(stack, "NATS", Nats(own.path / "nats"))
            llm = _started(stack, "a local LLM", Llm(own.path / "llm"))
            mode: Mode = "split" if split else "all"
            installation = _started(
                stack,
                "Turnout",
                Installation(own.path / mode, mode=mode, postgres=postgres, nats=nats, workers=workers),
            )
            addresses = {name: installation.address(name) for name in ("registry", "executor", "analytics")}
            admin = Client({**addresses}, installation.secrets.platform_key, PROJECT)
            with failures_for_people():
                _furnish(admin, llm.base_url, MODEL)
                key = _key(admin, own.path / "api-key")
            stack.enter_context(cli_client.kept(addresses=addresses, api_key=key, project=PROJECT))
            _tell(addresses, key, own.path, llm.base_url)
            _watch([postgres, nats, llm, *installation.processes])
    except KeyboardInterrupt:
        output.errors.print("stopped")
    except AppError as error:
        output.failure(error, grpc.StatusCode.UNAVAILABLE)
        raise typer.Exit(1) from None
    except OSError as error:
        output.errors.print(f"{error.filename or folder}: {error.strerror}", markup=False, highlight=False)
        raise typer.Exit(1) from None


def _started(stack: ExitStack, name: str, thing: Any) -> Any:
    output.errors.print(f"starting {name} … ", end="")
    began = time.monotonic()
    stack.enter_context(thing)
    output.errors.print(f"{time.monotonic() - began:.1f} s", highlight=False)
    return thing


def _furnish(admin: Client, llm_url: str, model: str) -> None:
    """A project, a provider and a deployment with two variants; what an earlier start made stays."""
    channel = admin.channel("registry")
    parent = admin.parent
    project = project_service_pb2.CreateProjectRequest(project_id=PROJECT)
    _unless_there(lambda: ProjectServiceStub(channel).CreateProject(project))
    provider = provider_pb2.Provider(kind=provider_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE, base_url=llm_url)
    create = provider_service_pb2.CreateProviderRequest(parent=parent, provider_id="local", provider=provider)
    _unless_there(lambda: ProviderServiceStub(channel).CreateProvider(create))
    deployment = deployment_pb2.Deployment(kind=deployment_pb2.DEPLOYMENT_KIND_COMPLETION)
    for display_name, prompt in _PROMPTS.items():
        variant = deployment.variants.add(display_name=display_name, weight=_WEIGHTS[display_name])
        version = variant.completion.new_version
        version.provider, version.model = "local", model
        version.parameters.max_output_tokens = 64
        version.messages.add(role=message_pb2.ROLE_SYSTEM, content=prompt)
        variant.completion.max_retries = 2
    request = deployment_service_pb2.CreateDeploymentRequest(
        parent=parent, deployment_id=DEPLOYMENT, deployment=deployment
    )
    _unless_there(lambda: DeploymentServiceStub(channel).CreateDeployment(request))


def _key(admin: Client, path: Path) -> str:
    """A key of the project: that of an earlier start with these data, else a new one."""
    if path.exists():
        return path.read_text()
    request = api_key_service_pb2.CreateApiKeyRequest(
        parent=admin.parent, api_key=api_key_pb2.ApiKey(display_name="turnout up", scopes=_SCOPES)
    )
    key: str = ApiKeyServiceStub(admin.channel("registry")).CreateApiKey(request).key
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key)
    return key


def _unless_there(create: Callable[[], object]) -> None:
    try:
        create()
    except grpc.RpcError as failure:
        if failure.code() is not grpc.StatusCode.ALREADY_EXISTS:
            raise


def _tell(addresses: dict[str, str], key: str, folder: Path, llm_url: str) -> None:
    print()
    output.facts(
        [
            ("address", " ".join(dict.fromkeys(addresses.values()))),
            ("API key", key),
            ("project", PROJECT),
            ("local LLM", llm_url),
            ("data", folder),
        ]
    )
    question = '"Any customs I should mind at the dinner table?"'
    print("\nIn another terminal, in this folder:")
    for command in (
        f"run {DEPLOYMENT} -v country=France -v language=English {question}",
        f"deployments show {DEPLOYMENT}",
        "stats",
    ):
        print(f"  {_program()} {command}")
    print("\nCtrl-C stops everything; the data stay.", flush=True)


def _program() -> str:
    """How to run this very program from a shell in this folder."""
    started_as = Path(sys.argv[0])
    if started_as.suffix == ".py":
        return f"{shlex.quote(sys.executable)} -m cli.main"
    if (found := shutil.which("turnout")) and Path(found).samefile(started_as):
        return "turnout"
    return shlex.quote(os.path.relpath(started_as))


def _watch(servers: list[Any]) -> None:
    while True:
        time.sleep(0.5)
        for server in servers:
            if not server.alive():
                raise Unavailable(
                    f"{server.name} ended by itself; see {server.log_path}", reason="SERVER_ENDED", server=server.name
                )
