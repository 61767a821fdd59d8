"""`turnout credentials`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output
from cli.client import Client, failures_for_people
from cli.progress import bars
from turnout.registry.v1 import provider_service_pb2 as pb
from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceStub

app = typer.Typer(
    help="All credentials of providers, for whoever runs the installation: encrypt them under another key.",
    no_args_is_help=True,
)


@app.callback()
def group() -> None:
    """Keeps `rotate` a command of its own while it is the only one."""


@app.command()
def rotate(
    context: typer.Context,
    batch_size: Annotated[int, typer.Option(min=1, max=1000, help="How many at a time.")] = 100,
) -> None:
    """Encrypt every stored credential under the first of TURNOUT_KEY_ENCRYPTION_KEYS. Calls go on meanwhile.

    First put the new key in front of the old one in that setting of every executor, then of every registry, and restart
    them; when this is done, remove the old one and restart them again. It can be interrupted and repeated.

    Example, with a key that has platform:admin: turnout --api-key "$PLATFORM_KEY" credentials rotate
    """
    client: Client = context.obj
    rotated = 0
    with failures_for_people():
        stub = ProviderServiceStub(client.channel("registry"))
        with bars() as begin:
            bar = begin("rotating")
            while True:
                answer = stub.RotateCredentials(pb.RotateCredentialsRequest(batch_size=batch_size))
                rotated += answer.rotated_count
                bar(rotated / max(1, rotated + answer.remaining_count))
                if not answer.remaining_count:
                    break
    if client.as_json:
        output.as_json(pb.RotateCredentialsResponse(rotated_count=rotated, key_id=answer.key_id))
        return
    output.say(f"{rotated} credentials encrypted anew; all are under the key {answer.key_id} now")
