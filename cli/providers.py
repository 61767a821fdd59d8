"""`turnout providers`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cli import output, pages
from cli.client import Client, failures_for_people
from turnout.registry.v1 import provider_pb2 as pb
from turnout.registry.v1 import provider_service_pb2
from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceStub

app = typer.Typer(help="Places that run LLMs.", no_args_is_help=True)


class Kind(StrEnum):
    """What a person types for a provider's wire contract."""

    OPENAI = "openai"
    OPENAI_COMPATIBLE = "openai-compatible"


_KINDS = {
    Kind.OPENAI: pb.PROVIDER_KIND_OPENAI,
    Kind.OPENAI_COMPATIBLE: pb.PROVIDER_KIND_OPENAI_COMPATIBLE,
}


@app.command("list")
def list_providers(context: typer.Context, limit: pages.Limit = 100) -> None:
    """Show a project's providers."""
    client: Client = context.obj
    with failures_for_people():
        stub = ProviderServiceStub(client.channel("registry"))

        def page(token: str) -> tuple[list[pb.Provider], str]:
            request = provider_service_pb2.ListProvidersRequest(parent=client.parent, page_token=token)
            answer = stub.ListProviders(request)
            return list(answer.providers), answer.next_page_token

        found = pages.walk(page, limit)
    if client.as_json:
        output.as_json(found)
        return
    words = {number: kind.value for kind, number in _KINDS.items()}
    output.table(
        ["provider", "kind", "base url", "credential"],
        [
            (p.name.rpartition("/")[2], words.get(p.kind, p.kind), p.base_url, "stored" if p.has_credential else "none")
            for p in found
        ],
    )


@app.command()
def create(
    context: typer.Context,
    provider_id: Annotated[str, typer.Argument(help="Its name in the project.")],
    kind: Annotated[Kind, typer.Option(help="Which wire contract it speaks.")] = Kind.OPENAI_COMPATIBLE,
    base_url: Annotated[str, typer.Option(help="Where its API starts, such as https://api.example.com/v1.")] = "",
    credential: Annotated[
        str,
        typer.Option(
            envvar="TURNOUT_PROVIDER_CREDENTIAL", help="Its API key; better given by the variable than typed."
        ),
    ] = "",
) -> None:
    """Add a place that runs LLMs."""
    client: Client = context.obj
    with failures_for_people():
        provider = ProviderServiceStub(client.channel("registry")).CreateProvider(
            provider_service_pb2.CreateProviderRequest(
                parent=client.parent,
                provider_id=provider_id,
                provider=pb.Provider(kind=_KINDS[kind], base_url=base_url, credential=credential),
            )
        )
    if client.as_json:
        output.as_json(provider)
        return
    output.say(f"created {provider.name}")
