"""`turnout up`: a whole Turnout on this machine, ready to be called."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import typer

from catalog import keys
from cli import client as cli_client
from cli import output
from cli.client import Client, failures_for_people
from cli.program import program
from kit.errors import AppError, Precondition, Unauthenticated, Unavailable
from stack import private_file
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
_SCOPES: Final = ["deployments:run", "predict", "registry:read", "registry:write", "keys:admin", "analytics:read"]
_PROMPTS: Final = {
    "Plain": "You are an expert on {{ country }}. Answer in {{ language }}, in one short sentence.",
    "Warm": "You are a warm and curious guide to {{ country }}. Answer in {{ language }}, in one short sentence.",
}
_NOT_PASSED_ON: Final = frozenset(("TURNOUT_API_KEY", "TURNOUT_PROJECT", "TURNOUT_PROVIDER_CREDENTIAL"))
"""Settings of the command line itself."""
_WEIGHTS: Final = {"Plain": 90, "Warm": 10}


def up(
    split: Annotated[
        bool, typer.Option("--split", help="One process for each service instead of one for all.")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, max=256, help="How many processes share each port.")] = 1,
    folder: Annotated[Path, typer.Option(help="Where data lie: its first free subfolder 0, 1, 2 ….")] = Path(
        ".turnout"
    ),
) -> None:
    """Start Postgres, NATS, a local LLM and all services; make a project, a key and a deployment; run until Ctrl-C.

    Data stay below the folder and are found again by the next start. Settings of the services in the environment are
    passed on, TURNOUT_OTLP_ENDPOINT for example; addresses, folders and keys are chosen here.
    """
    try:
        from stack.folder import StackFolder
        from stack.llm import MODEL, Llm
        from stack.nats import Nats
        from stack.postgres import Postgres
        from stack.services import ROOMS, SECRETS_FILE, Installation, Mode
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
                Installation(
                    own.path, mode=mode, postgres=postgres, nats=nats, workers=workers, settings=passed_on(os.environ)
                ),
            )
            addresses = {name: installation.address(name) for name in ROOMS}
            admin = Client({**addresses}, installation.secrets.platform_key, PROJECT)
            with failures_for_people():
                _furnish(admin, llm.base_url, MODEL)
                key = _key(admin, own.path / "api-key")
            http_url = f"http://{installation.http_address}"
            stack.enter_context(
                cli_client.kept(addresses=addresses, http_url=http_url, api_key=key, project=PROJECT, data=own.path)
            )
            _tell(addresses, f"{http_url}/v1", key, own.path / SECRETS_FILE, own.path, llm.base_url)
            _watch([postgres, nats, llm, *installation.processes])
    except KeyboardInterrupt:
        output.errors.print("stopped")
    except AppError as error:
        output.failure(error, grpc.StatusCode.UNAVAILABLE)
        raise typer.Exit(1) from None
    except OSError as error:
        output.errors.print(f"{error.filename or folder}: {error.strerror}", markup=False, highlight=False)
        raise typer.Exit(1) from None


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """Of an environment, what services shall read. Addresses are left out: a fixed one cannot be that of several."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith("TURNOUT_") and not name.endswith("_ADDRESS") and name not in _NOT_PASSED_ON
    }


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
    if not _unless_there(lambda: ProviderServiceStub(channel).CreateProvider(create)):
        # Its port may be another one now, and somebody else may have the old one.
        provider.name = f"{parent}/providers/local"
        update = provider_service_pb2.UpdateProviderRequest(provider=provider)
        update.update_mask.paths.append("base_url")
        ProviderServiceStub(channel).UpdateProvider(update)
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
    """A key of the project: that of an earlier start with these data, else a new one.

    :raises Precondition: `API_KEY_UNREADABLE` if the file of an earlier start is damaged
    """
    if path.exists():
        return _kept_key(path)
    request = api_key_service_pb2.CreateApiKeyRequest(
        parent=admin.parent, api_key=api_key_pb2.ApiKey(display_name="turnout up", scopes=_SCOPES)
    )
    key: str = ApiKeyServiceStub(admin.channel("registry")).CreateApiKey(request).key
    private_file.write(path, key)
    return key


def _kept_key(path: Path) -> str:
    try:
        key = path.read_bytes().decode("ascii").strip()
        keys.parse(key)
    except (UnicodeError, Unauthenticated):
        raise Precondition(
            f"{path} holds no API key any more: delete it, and the next start makes a new one",
            reason="API_KEY_UNREADABLE",
        ) from None
    return key


def _unless_there(create: Callable[[], object]) -> bool:
    """Whether it was made now."""
    try:
        create()
    except grpc.RpcError as failure:
        if failure.code() is not grpc.StatusCode.ALREADY_EXISTS:
            raise
        return False
    return True


def _tell(addresses: dict[str, str], http_url: str, key: str, secrets: Path, folder: Path, llm_url: str) -> None:
    print()
    output.facts(
        [
            *_labelled(addresses),
            ("for OpenAI SDKs", http_url),
            ("API key", key),
            ("platform key", f"`platform_key` in {secrets}: makes projects, and may do everything"),
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
        print(f"  {program()} {command}")
    print("\nCtrl-C stops everything; the data stay.", flush=True)


def _labelled(addresses: dict[str, str]) -> list[tuple[str, str]]:
    """One address for everything, or one for each service, by its name; the gateway's is called with HTTP only."""
    if len(set(addresses.values())) == 1:
        return [("address", next(iter(addresses.values())))]
    return [(name, address) for name, address in addresses.items() if name != "gateway"]


def _watch(servers: list[Any]) -> None:
    while True:
        time.sleep(0.5)
        for server in servers:
            if not server.alive():
                raise Unavailable(
                    f"{server.name} {server.ending}; see {server.log_path}", reason="SERVER_ENDED", server=server.name
                )
