"""`turnout providers`."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Final, TextIO

import typer

from cli import model_facts, names, output, pages, proposals, words
from cli.client import Client, failures_for_people
from cli.program import program
from cli.words import ProviderKind
from kit.errors import Precondition
from turnout.registry.v1 import provider_pb2 as pb
from turnout.registry.v1 import provider_service_pb2
from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceStub

Provider = Annotated[str, typer.Argument(help="Its name or uid.", autocompletion=proposals.providers)]

_MAX_CREDENTIAL: Final = 10_000

app = typer.Typer(
    help="Places that run LLMs, such as OpenAI or a server of your own, and their credentials.", no_args_is_help=True
)


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
    if not found:
        output.aside(f"there are no providers yet; to add one: {program()} providers create --help")
    output.table(
        ["provider", "kind", "base url", "credential"],
        [
            (
                p.name.rpartition("/")[2] + (" (archived)" if p.archived else ""),
                words.word(words.PROVIDER_KINDS, p.kind),
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
    kind: Annotated[ProviderKind, typer.Option(help="Which wire contract it speaks.")] = ProviderKind.OPENAI_COMPATIBLE,
    base_url: Annotated[str, typer.Option(help="Where its API starts, such as https://api.example.com/v1.")] = "",
    credential: Annotated[
        str,
        typer.Option(
            envvar="TURNOUT_PROVIDER_CREDENTIAL",
            help="Its API key; better given by the variable than typed, or as - by standard input.",
        ),
    ] = "",
) -> None:
    """Add a place that runs LLMs.

    Examples: TURNOUT_PROVIDER_CREDENTIAL="$OPENAI_API_KEY" turnout providers create openai --kind openai;
    turnout providers create local --base-url http://127.0.0.1:8000/v1
    """
    client: Client = context.obj
    if credential == "-":
        credential = _read_credential("--credential")
    with failures_for_people():
        provider = ProviderServiceStub(client.channel("registry")).CreateProvider(
            provider_service_pb2.CreateProviderRequest(
                parent=client.parent,
                provider_id=provider_id,
                provider=pb.Provider(kind=words.PROVIDER_KINDS[kind], base_url=base_url, credential=credential),
            )
        )
    if client.as_json:
        output.as_json(provider)
        return
    output.say(f"created {provider.name}; try: {program()} providers check {provider_id}")


@app.command()
def show(context: typer.Context, provider: Provider) -> None:
    """Show one provider; never its credential.

    Example: turnout providers show openai
    """
    client: Client = context.obj
    with failures_for_people():
        found = _stub(client).GetProvider(provider_service_pb2.GetProviderRequest(name=_name(client, provider)))
    if client.as_json:
        output.as_json(found)
        return
    output.facts(
        [
            ("name", found.name),
            ("uid", found.uid),
            ("display name", found.display_name),
            ("kind", words.word(words.PROVIDER_KINDS, found.kind)),
            ("base url", found.base_url or "the kind's own"),
            ("credential", "stored" if found.has_credential else "none"),
            ("calls at once", f"{found.max_concurrent_calls:,}" if found.max_concurrent_calls else "the usual number"),
            *([("archived", "yes: nothing new can name it")] if found.archived else []),
            ("created", found.create_time.ToJsonString()),
            ("changed", found.update_time.ToJsonString()),
        ]
    )
    if found.model_facts:
        output.say("")
        model_facts.tell(found.model_facts)


@app.command()
def update(
    context: typer.Context,
    provider: Provider,
    source: Annotated[
        str, typer.Argument(metavar="[-]", help="With --set-credential: read from standard input.", show_default=False)
    ] = "",
    base_url: Annotated[
        str | None, typer.Option(help="Where its API starts; empty for the kind's own address.", show_default=False)
    ] = None,
    display_name: Annotated[str | None, typer.Option(help="For people.", show_default=False)] = None,
    set_credential: Annotated[
        bool,
        typer.Option(
            "--set-credential",
            help="Another API key: that in TURNOUT_PROVIDER_CREDENTIAL; without one it is asked for, unseen. "
            "With - behind it, it is read from standard input.",
        ),
    ] = False,
    no_credential: Annotated[bool, typer.Option("--no-credential", help="Forget the API key.")] = False,
    price: model_facts.Prices = None,
    context_window: model_facts.Windows = None,
    structured_output: model_facts.Outputs = None,
    forget: model_facts.Forgotten = None,
    max_concurrent: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=100_000,
            help="How many calls one process has under way there; more wait shortly. 0: the executor's setting.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it, change nothing.")] = False,
) -> None:
    """Change where a provider is, its credential, its bound of calls, or what its models cost, hold and take.

    Prices and context windows are for models that the price table does not know, or knows otherwise. Models that take
    no JSON schema are told it in words. The provider's kind stays.

    Examples: turnout providers update local --base-url http://10.0.0.7:8000/v1;
    turnout providers update openai --set-credential - < key.txt;
    turnout providers update local --price llama3=0/0 --context-window llama3=8192;
    turnout providers update deepseek --structured-output deepseek-chat=json_object;
    turnout providers update openai --price ft:gpt-4o=3.75/1.875/15 --max-concurrent 200
    """
    client: Client = context.obj
    tells_facts = bool(price or context_window or structured_output or forget)
    if source and not (source == "-" and set_credential):
        raise typer.BadParameter(f"{source!r} is too much: only - may stand here, with --set-credential")
    if set_credential and no_credential:
        raise typer.BadParameter("give --set-credential or --no-credential, not both", param_hint="--no-credential")
    texts = {"base_url": base_url, "display_name": display_name, "credential": "" if no_credential else None}
    if not (tells_facts or set_credential or max_concurrent is not None or any(t is not None for t in texts.values())):
        raise typer.BadParameter(
            "say what to change: --base-url, --display-name, --set-credential, --no-credential, --price, "
            "--context-window, --structured-output, --forget or --max-concurrent"
        )
    if set_credential:
        texts["credential"] = _read_credential("--set-credential") if source else _credential()
    with failures_for_people():
        stub = _stub(client)
        known = stub.GetProvider(provider_service_pb2.GetProviderRequest(name=_name(client, provider)))
        # The etag keeps what another changes in between.
        request = provider_service_pb2.UpdateProviderRequest(provider=pb.Provider(name=known.name, etag=known.etag))
        request.validate_only = dry_run
        for path, text in texts.items():
            if text is not None:
                setattr(request.provider, path, text)
                request.update_mask.paths.append(path)
        if tells_facts:
            request.provider.model_facts.extend(
                model_facts.changed(
                    known.model_facts,
                    prices=price,
                    windows=context_window,
                    outputs=structured_output,
                    forgotten=forget,
                )
            )
            request.update_mask.paths.append("model_facts")
        if max_concurrent is not None:
            request.provider.max_concurrent_calls = max_concurrent
            request.update_mask.paths.append("max_concurrent_calls")
        changed = stub.UpdateProvider(request)
    if client.as_json:
        output.as_json(changed)
        return
    bound = f"at most {changed.max_concurrent_calls:,}" if changed.max_concurrent_calls else "the usual number of"
    done = "could be updated" if dry_run else "updated"
    where = f"at {changed.base_url}, " if changed.base_url else ""
    output.say(f"{done} {changed.name}: {where}{bound} calls at once")
    if changed.model_facts:
        model_facts.tell(changed.model_facts)


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


def _read_credential(option: str) -> str:
    """Of standard input, without the line break at its end.

    :raises typer.BadParameter: if there is none
    """
    given = _standard_input().readline(_MAX_CREDENTIAL + 1).strip()
    if not given or len(given) > _MAX_CREDENTIAL:
        problem = f"must have at most {_MAX_CREDENTIAL:,} characters" if given else "is empty"
        raise typer.BadParameter(f"what standard input gives {problem}", param_hint=option)
    return given


def _standard_input() -> TextIO:
    return sys.stdin


def _credential() -> str:
    """Of the environment; else a person is asked.

    :raises typer.BadParameter: if nobody can be
    """
    if given := os.environ.get("TURNOUT_PROVIDER_CREDENTIAL"):
        return given
    if not sys.stdin.isatty():
        raise typer.BadParameter("set TURNOUT_PROVIDER_CREDENTIAL to the API key", param_hint="--set-credential")
    return str(typer.prompt("API key", hide_input=True))


def _stub(client: Client) -> ProviderServiceStub:
    return ProviderServiceStub(client.channel("registry"))


def _name(client: Client, provider: str) -> str:
    return names.resource(client, provider, "providers")


def _tell(client: Client, changed: pb.Provider) -> None:
    if client.as_json:
        output.as_json(changed)
        return
    output.say(f"{changed.name} is {'archived' if changed.archived else 'in use again'}")
