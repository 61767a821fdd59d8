"""`turnout keys`."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import Annotated, Final, TypeAlias

import typer

from catalog.keys import PROJECT_SCOPES
from cli import names, output, pages, proposals
from cli.client import Client, failures_for_people
from turnout.registry.v1 import api_key_pb2 as pb
from turnout.registry.v1 import api_key_service_pb2 as service_pb
from turnout.registry.v1.api_key_service_pb2_grpc import ApiKeyServiceStub

_SCOPES: Final = f"What it may do; repeat for several. {', '.join(sorted(PROJECT_SCOPES))}"

KeyId: TypeAlias = Annotated[str, typer.Argument(help="The 12 characters of its id.", autocompletion=proposals.keys)]

_FORMATS: Final = ("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z")


def _moment(text: str) -> datetime:
    for written in _FORMATS:
        with contextlib.suppress(ValueError):
            return datetime.strptime(text, written)  # in UTC unless it says so
    raise typer.BadParameter(f"{text!r} is no date: write 2027-01-31, or 2027-01-31T18:00:00+01:00")


Until: TypeAlias = Annotated[
    datetime | None,
    typer.Option(
        help="When it stops working, such as 2027-01-31 or 2027-01-31T18:00:00+01:00; in UTC unless it says so.",
        parser=_moment,
        metavar="DATE",
    ),
]

PerMinute: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--requests-per-minute",
        min=0,
        max=10_000_000,
        help="How many completions and recommendations it may ask for in a minute; 0: no bound.",
    ),
]

app = typer.Typer(help="API keys: who may call, what they may do, and until when.", no_args_is_help=True)


@app.command("list")
def list_keys(context: typer.Context, limit: pages.Limit = 100) -> None:
    """Show a project's keys, without their secrets."""
    client: Client = context.obj
    with failures_for_people():
        stub = ApiKeyServiceStub(client.channel("registry"))

        def page(token: str) -> tuple[list[pb.ApiKey], str]:
            answer = stub.ListApiKeys(service_pb.ListApiKeysRequest(parent=client.parent, page_token=token))
            return list(answer.api_keys), answer.next_page_token

        found = pages.walk(page, limit)
    if client.as_json:
        output.as_json(found)
        return
    output.table(
        ["key", "display name", "scopes", "per minute", "last used", "state"],
        [
            (
                key.uid,
                key.display_name,
                ", ".join(key.scopes),
                f"{key.requests_per_minute:,}" if key.requests_per_minute else "–",
                _last_use(key),
                _state(key),
            )
            for key in found
        ],
        numbers=["per minute"],
    )


@app.command()
def create(
    context: typer.Context,
    display_name: Annotated[str, typer.Argument(help="Whose key it is, such as the program's name.")],
    scope: Annotated[list[str], typer.Option(help=_SCOPES, autocompletion=proposals.scopes)] = ["deployments:run"],  # noqa: B006  # typer reads it, nobody changes it
    until: Until = None,
    requests_per_minute: PerMinute = None,
) -> None:
    """Make a key and show it, this once.

    Example: turnout keys create checkout --scope deployments:run --requests-per-minute 600
    """
    client: Client = context.obj
    wanted = pb.ApiKey(display_name=display_name, scopes=scope, requests_per_minute=requests_per_minute or 0)
    _set_end(wanted, until)
    with failures_for_people():
        key = ApiKeyServiceStub(client.channel("registry")).CreateApiKey(
            service_pb.CreateApiKeyRequest(parent=client.parent, api_key=wanted)
        )
    if client.as_json:
        output.as_json(key)
        return
    # The key alone on standard output, so that it can be piped; the rest is for the person.
    output.errors.print(f"created {key.name}; this is shown once:", markup=False, highlight=False, soft_wrap=True)
    print(key.key)


@app.command()
def update(
    context: typer.Context,
    key_id: KeyId,
    display_name: Annotated[str, typer.Option(help="Whose key it is.")] = "",
    scope: Annotated[
        list[str] | None, typer.Option(help=f"{_SCOPES} Replaces what it had.", autocompletion=proposals.scopes)
    ] = None,
    until: Until = None,
    forever: Annotated[bool, typer.Option("--forever", help="It does not stop working by itself.")] = False,
    requests_per_minute: PerMinute = None,
) -> None:
    """Change what a key is called, what it may do, until when or how often. The key itself stays.

    Example: turnout keys update 4f9k2m7q0x3z --scope deployments:run --scope predict --until 2027-01-31
    """
    client: Client = context.obj
    if until is not None and forever:
        raise typer.BadParameter("give --until or --forever, not both", param_hint="--forever")
    request = service_pb.UpdateApiKeyRequest()
    request.api_key.display_name = display_name
    request.api_key.scopes.extend(scope or ())
    _set_end(request.api_key, until)
    request.api_key.requests_per_minute = requests_per_minute or 0
    given = {
        "display_name": display_name,
        "scopes": scope,
        "expire_time": until is not None or forever,
        "requests_per_minute": requests_per_minute is not None,
    }
    request.update_mask.paths.extend(path for path, value in given.items() if value)
    if not request.update_mask.paths:
        raise typer.BadParameter(
            "say what to change: --display-name, --scope, --until, --forever or --requests-per-minute"
        )
    with failures_for_people():
        request.api_key.name = names.resource(client, key_id, "apiKeys")
        key = ApiKeyServiceStub(client.channel("registry")).UpdateApiKey(request)
    if client.as_json:
        output.as_json(key)
        return
    bound = f", at most {key.requests_per_minute:,} calls a minute" if key.requests_per_minute else ""
    output.say(f"updated {key.name} ({key.display_name}): {', '.join(key.scopes)}; {_state(key)}{bound}")


@app.command()
def revoke(context: typer.Context, key_id: KeyId) -> None:
    """Stop a key for ever."""
    client: Client = context.obj
    with failures_for_people():
        key = ApiKeyServiceStub(client.channel("registry")).RevokeApiKey(
            service_pb.RevokeApiKeyRequest(name=names.resource(client, key_id, "apiKeys"))
        )
    if client.as_json:
        output.as_json(key)
        return
    output.say(f"revoked {key.name}; every connected service refuses it within a second")


def _set_end(key: pb.ApiKey, until: datetime | None) -> None:
    if until is not None:
        key.expire_time.FromDatetime(until if until.tzinfo else until.replace(tzinfo=UTC))


def _last_use(key: pb.ApiKey) -> str:
    return key.last_use_time.ToDatetime().strftime("%Y-%m-%d %H:%M") if key.HasField("last_use_time") else "never"


def _state(key: pb.ApiKey) -> str:
    if key.HasField("revoke_time"):
        return f"revoked {key.revoke_time.ToJsonString()}"
    return f"until {key.expire_time.ToJsonString()}" if key.HasField("expire_time") else "in use"
