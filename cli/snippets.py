"""`turnout deployments snippets`: programs that call a deployment."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cli import names, output, proposals
from cli.client import Client, failures_for_people
from turnout.registry.v1 import deployment_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub


class Language(StrEnum):
    """What a person types for a program's language and library."""

    PYTHON_OPENAI = "python-openai"
    NODE_OPENAI = "node-openai"
    PYTHON_GRPC = "python-grpc"
    CURL = "curl"
    CLI = "cli"


def snippets(
    context: typer.Context,
    deployment: Annotated[
        str,
        typer.Argument(
            help="Its name or uid; with /VARIANT behind it, for a caller whom that variant serves.",
            autocompletion=proposals.deployments,
            show_default=False,
        ),
    ],
    language: Annotated[
        Language | None, typer.Option(help="One program alone, ready for a file. Default: all.")
    ] = None,
    alias: Annotated[
        str, typer.Option(help="The alias to call.", autocompletion=proposals.aliases, show_default="live")
    ] = "",
    http_url: Annotated[
        str,
        typer.Option(
            help="Where the gateway listens. Default: where `turnout up` started it, else what the operator set."
        ),
    ] = "",
    grpc_address: Annotated[
        str, typer.Option(help="host:port of the executor, or inference. Default: where this command would call it.")
    ] = "",
) -> None:
    """Print programs that call a deployment, ready to run: they read the key from TURNOUT_API_KEY.

    Examples: turnout deployments snippets guide; turnout deployments snippets guide/calm --language curl | sh
    """
    client: Client = context.obj
    with failures_for_people():
        named = names.deployment(client, deployment)
        request = pb.GetCodeSnippetsRequest(
            name=named.full + (f"/variants/{named.variant}" if named.variant else ""),
            alias=named.alias_or(alias),
            http_url=http_url or client.http_url,
        )
        stub = DeploymentServiceStub(client.channel("registry"))
        request.grpc_address = grpc_address or _called(client, stub, named.full)
        answer = stub.GetCodeSnippets(request)
    found = [each for each in answer.snippets if language is None or each.snippet == language.value]
    if client.as_json:
        output.as_json(answer if language is None else pb.GetCodeSnippetsResponse(snippets=found))
        return
    if language is not None and not found:
        has = ", ".join(each.snippet for each in answer.snippets)
        raise typer.BadParameter(f"there is none for such a deployment; there are {has}", param_hint="--language")
    for position, each in enumerate(found):
        if language is None:
            comment = "//" if each.language == "javascript" else "#"
            output.answer(f"{'' if position == 0 else chr(10)}{comment} ---- {each.title} ({each.snippet})")
        output.answer(each.code, end="" if each.code.endswith("\n") else "\n")


def _called(client: Client, stub: DeploymentServiceStub, deployment: str) -> str:
    """Where this command itself would call such a deployment."""
    executor, inference = client.address("executor"), client.address("inference")
    if executor == inference:
        return executor
    found = stub.GetDeployment(pb.GetDeploymentRequest(name=deployment))
    return inference if found.kind == deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION else executor
