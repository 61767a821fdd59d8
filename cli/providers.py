"""`turnout providers`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cli import output, pages
from cli.client import Client, failures_for_people
from cli.program import program
from kit.errors import Precondition
from turnout.registry.v1 import provider_pb2 as pb
from turnout.registry.v1 import provider_service_pb2
from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceStub

Provider = Annotated[str, typer.Argument(help="Its name or uid.")]

app = typer.Typer(help="Places that run LLMs.", no_args_is_help=True)


class Kind(StrEnum):
    """What a person types for a provider's wire contract."""

    OPENAI = "openai"
    OPENAI_COMPATIBLE = "openai-compatible"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"


_KINDS = {
    Kind.OPENAI: pb.PROVIDER_KIND_OPENAI,
    Kind.OPENAI_COMPATIBLE: pb.PROVIDER_KIND_OPENAI_COMPATIBLE,
    Kind.ANTHROPIC: pb.PROVIDER_KIND_ANTHROPIC,
    Kind.OLLAMA: pb.PROVIDER_KIND_OLLAMA,
}


@app.command("list")
def list_providers(
    context: typer.Context,
    limit: pages.Limit = 100,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
) -> None:
    """Show a project's providers."""
    client: Client = context.obj
    with failures_for_people():
        stub = ProviderServiceStub(client.channel("registry"))

        def page(token: str) -> tuple[list[pb.Provider], str]:
            request = provider_service_pb2.ListProvidersRequest(
                parent=client.parent, page_token=token, show_archived=archived
            )
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
            (
                p.name.rpartition("/")[2] + (" (archived)" if p.archived else ""),
                words.get(p.kind, p.kind),
                p.base_url,
                "stored" if p.has_credential else "none",
            )
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
    output.say(f"created {provider.name}; try: {program()} providers check {provider_id}")


@app.command("models")
def list_models(
    context: typer.Context,
    provider: Provider,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask it now, also if it was asked within a minute.")
    ] = False,
    containing: Annotated[str, typer.Option(help="Only names that hold this text.")] = "",
) -> None:
    """Show the models that a provider offers now, as it says itself.

    Example: turnout providers models openai --containing mini
    """
    client: Client = context.obj
    with failures_for_people():
        request = provider_service_pb2.ListProviderModelsRequest(name=_name(client, provider), refresh=refresh)
        answer = _stub(client).ListProviderModels(request)
    found = [model for model in answer.models if containing.casefold() in model.model.casefold()]
    if client.as_json:
        output.as_json(found)
        return
    output.table(
        ["model", "display name", "context", "created"],
        [
            (
                model.model,
                model.display_name,
                f"{model.context_window_tokens:,}" if model.context_window_tokens else "–",
                model.create_time.ToJsonString() if model.HasField("create_time") else "–",
            )
            for model in found
        ],
        numbers=["context"],
    )


@app.command()
def check(context: typer.Context, provider: Provider) -> None:
    """Find out whether a provider can be reached and takes its credential. No model is run.

    Example: turnout providers check openai && turnout providers models openai
    """
    client: Client = context.obj
    with failures_for_people():
        answer = _stub(client).CheckProvider(provider_service_pb2.CheckProviderRequest(name=_name(client, provider)))
        if not answer.ok:
            raise Precondition(answer.sentence, reason=answer.reason)
    if client.as_json:
        output.as_json(answer)
        return
    output.say(f"it answers within {output.milliseconds(answer.latency_us)} and offers {answer.model_count:,} models")


@app.command()
def archive(context: typer.Context, provider: Provider) -> None:
    """Take a provider out of use: nothing new can name it. Refused while an alias needs it, naming where."""
    client: Client = context.obj
    with failures_for_people():
        _tell(
            client,
            _stub(client).ArchiveProvider(provider_service_pb2.ArchiveProviderRequest(name=_name(client, provider))),
        )


@app.command()
def unarchive(context: typer.Context, provider: Provider) -> None:
    """Bring an archived provider back."""
    client: Client = context.obj
    with failures_for_people():
        _tell(
            client,
            _stub(client).UnarchiveProvider(
                provider_service_pb2.UnarchiveProviderRequest(name=_name(client, provider))
            ),
        )


def _stub(client: Client) -> ProviderServiceStub:
    return ProviderServiceStub(client.channel("registry"))


def _name(client: Client, provider: str) -> str:
    return f"{client.parent}/providers/{provider}"


def _tell(client: Client, changed: pb.Provider) -> None:
    if client.as_json:
        output.as_json(changed)
        return
    output.say(f"{changed.name} is {'archived' if changed.archived else 'in use again'}")
