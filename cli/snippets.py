"""`turnout deployments snippets`: programs that call a deployment."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cli import output, proposals
from cli.client import Client, failures_for_people
from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub


class Language(StrEnum):
    """What a person types for a program's language and library."""

    PYTHON_OPENAI = "python-openai"
    NODE_OPENAI = "node-openai"
    PYTHON_GRPC = "python-grpc"
    CURL = "curl"


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
    alias: Annotated[str, typer.Option(help="The alias to call.", autocompletion=proposals.aliases)] = "live",
    http_url: Annotated[str, typer.Option(help="Where the gateway listens. Default: what the operator set.")] = "",
    grpc_address: Annotated[
        str, typer.Option(help="host:port of the executor, or inference. Default: what the operator set.")
    ] = "",
) -> None:
    """Print programs that call a deployment, ready to run: they read the key from TURNOUT_API_KEY.

    Examples: turnout deployments snippets guide; turnout deployments snippets guide/calm --language curl | sh
    """
    client: Client = context.obj
    name, slash, variant = deployment.partition("/")
    if slash and not variant:
        raise typer.BadParameter("give a variant's slug, uid or number behind the /", param_hint="deployment")
    with failures_for_people():
        full = f"{client.parent}/deployments/{name}" + (f"/variants/{variant}" if variant else "")
        request = pb.GetCodeSnippetsRequest(name=full, alias=alias, http_url=http_url, grpc_address=grpc_address)
        answer = DeploymentServiceStub(client.channel("registry")).GetCodeSnippets(request)
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
            print(f"{'' if position == 0 else chr(10)}{comment} ---- {each.title} ({each.snippet})")
        print(each.code, end="" if each.code.endswith("\n") else "\n")
