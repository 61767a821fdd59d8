"""`turnout keys`."""

from __future__ import annotations

from typing import Annotated

import typer

from catalog.keys import PROJECT_SCOPES
from cli import output, pages
from cli.client import Client, failures_for_people
from turnout.registry.v1 import api_key_pb2 as pb
from turnout.registry.v1 import api_key_service_pb2 as service_pb
from turnout.registry.v1.api_key_service_pb2_grpc import ApiKeyServiceStub

app = typer.Typer(help="Who may call.", no_args_is_help=True)


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
        ["key", "display name", "scopes", "state"],
        [(key.uid, key.display_name, ", ".join(key.scopes), _state(key)) for key in found],
    )


@app.command()
def create(
    context: typer.Context,
    display_name: Annotated[str, typer.Argument(help="Whose key it is, such as the program's name.")],
    scope: Annotated[
        list[str], typer.Option(help=f"What it may do; repeat for several. {', '.join(sorted(PROJECT_SCOPES))}")
    ] = ["deployments:run"],  # noqa: B006  # typer reads it, nobody changes it
) -> None:
    """Make a key and show it, this once."""
    client: Client = context.obj
    with failures_for_people():
        key = ApiKeyServiceStub(client.channel("registry")).CreateApiKey(
            service_pb.CreateApiKeyRequest(
                parent=client.parent, api_key=pb.ApiKey(display_name=display_name, scopes=scope)
            )
        )
    if client.as_json:
        output.as_json(key)
        return
    # The key alone on standard output, so that it can be piped; the rest is for the person.
    output.errors.print(f"created {key.name}; this is shown once:", markup=False, highlight=False, soft_wrap=True)
    print(key.key)


@app.command()
def revoke(context: typer.Context, key_id: Annotated[str, typer.Argument(help="The 12 characters of its id.")]) -> None:
    """Stop a key for ever."""
    client: Client = context.obj
    with failures_for_people():
        key = ApiKeyServiceStub(client.channel("registry")).RevokeApiKey(
            service_pb.RevokeApiKeyRequest(name=f"{client.parent}/apiKeys/{key_id}")
        )
    if client.as_json:
        output.as_json(key)
        return
    output.say(f"revoked {key.name}; every connected service refuses it within a second")


def _state(key: pb.ApiKey) -> str:
    if key.HasField("revoke_time"):
        return f"revoked {key.revoke_time.ToJsonString()}"
    return f"until {key.expire_time.ToJsonString()}" if key.HasField("expire_time") else "in use"
