"""`turnout models`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli import names, output, pages, proposals
from cli.client import Client, failures_for_people
from cli.program import program
from cli.progress import bars
from kit.errors import Precondition
from turnout.inference.v1 import artifact_service_pb2 as artifact_pb
from turnout.inference.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from turnout.registry.v1 import model_pb2 as pb
from turnout.registry.v1 import model_service_pb2 as service_pb
from turnout.registry.v1.model_service_pb2_grpc import ModelServiceStub

if TYPE_CHECKING:
    from recommenders.manifest import Manifest

Model = Annotated[str, typer.Argument(help="Its number or uid.", autocompletion=proposals.models)]

app = typer.Typer(
    help="Trained recommenders: what `turnout train` makes, for deployments to serve.", no_args_is_help=True
)

CHUNK_BYTES: Final = 1 << 20
_SLOWEST_BYTES_PER_SECOND: Final = 1 << 20
"""What an upload's deadline allows for."""


@app.command("list")
def list_models(
    context: typer.Context,
    limit: pages.Limit = 100,
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
) -> None:
    """Show a project's trained models, oldest first."""
    client: Client = context.obj
    with failures_for_people():
        stub = ModelServiceStub(client.channel("registry"))

        def page(token: str) -> tuple[list[pb.Model], str]:
            request = service_pb.ListModelsRequest(parent=client.parent, page_token=token, show_archived=archived)
            answer = stub.ListModels(request)
            return list(answer.models), answer.next_page_token

        found = pages.walk(page, limit)
    if client.as_json:
        output.as_json(found)
        return
    if not found:
        output.aside(f"there are no models yet; to train one: {program()} train --help")
    output.table(
        ["number", "model", "display name", "algorithm", "users", "items", "ndcg@10", "size", "created"],
        [
            (
                model.number,
                model.uid,
                model.display_name + (" (archived)" if model.archived else ""),
                model.algorithm,
                f"{model.user_count:,}",
                f"{model.item_count:,}",
                _measured(model, "ndcg@10"),
                size_text(model.size_bytes),
                model.create_time.ToJsonString(),
            )
            for model in found
        ],
        numbers=["number", "users", "items", "ndcg@10", "size"],
    )


@app.command()
def show(context: typer.Context, model: Model) -> None:
    """Show one model: what it was trained with, and what was measured."""
    client: Client = context.obj
    with failures_for_people():
        found = ModelServiceStub(client.channel("registry")).GetModel(
            service_pb.GetModelRequest(name=names.resource(client, model, "models"))
        )
    if client.as_json:
        output.as_json(found)
        return
    output.facts(
        [
            ("name", found.name),
            ("number", found.number),
            ("display name", found.display_name),
            ("algorithm", found.algorithm),
            ("users", f"{found.user_count:,}"),
            ("items", f"{found.item_count:,}"),
            ("interactions", f"{found.interaction_count:,}"),
            ("size", size_text(found.size_bytes)),
            ("digest", found.digest),
            ("created", f"{found.create_time.ToJsonString()} by {found.creator}"),
            *((f"parameter {name}", value) for name, value in _object(found.parameters_json).items()),
            *((f"metric {name}", _number(value)) for name, value in _object(found.metrics_json).items()),
        ]
    )


@app.command()
def archive(context: typer.Context, model: Model) -> None:
    """Take a model out of use: nothing new can name it. Refused while an alias needs it, naming where."""
    client: Client = context.obj
    with failures_for_people():
        request = service_pb.ArchiveModelRequest(name=names.resource(client, model, "models"))
        _tell_archived(client, ModelServiceStub(client.channel("registry")).ArchiveModel(request))


@app.command()
def unarchive(context: typer.Context, model: Model) -> None:
    """Bring an archived model back."""
    client: Client = context.obj
    with failures_for_people():
        request = service_pb.UnarchiveModelRequest(name=names.resource(client, model, "models"))
        _tell_archived(client, ModelServiceStub(client.channel("registry")).UnarchiveModel(request))


def _tell_archived(client: Client, changed: pb.Model) -> None:
    if client.as_json:
        output.as_json(changed)
        return
    output.say(f"model {changed.number} is {'archived' if changed.archived else 'in use again'}")


@app.command("upload")
def upload_folder(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="An artifact, as `turnout train --out` writes it.")],
    name: Annotated[str, typer.Option(help="Free text for people. Default: `Model` and its number.")] = "",
    description: Annotated[str, typer.Option(help="Free text for people.")] = "",
) -> None:
    """Check an artifact and register it as a trained model. What is there already is not made twice."""
    client: Client = context.obj
    with failures_for_people():
        with recommenders_libraries():
            from recommenders.artifact import check_artifact
        manifest = check_artifact(folder)
        with bars() as bar:
            model = upload(client, folder, manifest, name=name, description=description, progress=bar("uploading"))
    if client.as_json:
        output.as_json(model)
        return
    tell(model)


def upload(
    client: Client, folder: Path, manifest: Manifest, *, name: str, description: str, progress: Callable[[float], None]
) -> pb.Model:
    """Send an artifact that is known to be sound."""
    header = artifact_pb.UploadModelHeader(
        parent=client.parent,
        display_name=name,
        description=description,
        manifest=(folder / "manifest.json").read_bytes(),
    )

    def pieces() -> Iterator[artifact_pb.UploadModelRequest]:
        yield artifact_pb.UploadModelRequest(header=header)
        sent = len(header.manifest)
        for entry in manifest.files:
            with open(folder / entry.name, "rb") as file:
                while data := file.read(CHUNK_BYTES):
                    yield artifact_pb.UploadModelRequest(chunk=artifact_pb.UploadModelChunk(file=entry.name, data=data))
                    sent += len(data)
                    progress(sent / manifest.size_bytes)

    # The channel adds the key to calls of one message only.
    metadata = (("authorization", f"Bearer {client.api_key}"), ("turnout-client", "cli")) if client.api_key else ()
    return ArtifactServiceStub(client.channel("inference")).UploadModel(
        pieces(), metadata=metadata, timeout=60 + manifest.size_bytes / _SLOWEST_BYTES_PER_SECOND
    )


def tell(model: pb.Model) -> None:
    """What it is called now, and what to do next."""
    output.say(f"model {model.number} is {model.name}; try: {program()} models show {model.number}")


def size_text(size: int) -> str:
    """A size as people write it, small ones in kB.

    :param size: in bytes
    """
    # From here on kB would be written as 1,000.0.
    return f"{size / 1e6:,.1f} MB" if size >= 999_950 else f"{size / 1e3:,.1f} kB"


@contextmanager
def recommenders_libraries() -> Iterator[None]:
    """Imports of what reads and trains models: the command line alone is installed without it.

    :raises Precondition: `TRAINING_LIBRARY_MISSING`
    """
    try:
        yield
    except ModuleNotFoundError as error:
        message = f"this needs the library {error.name}; install it with: pip install 'turnout[train]'"
        raise Precondition(message, reason="TRAINING_LIBRARY_MISSING") from None


def _measured(model: pb.Model, name: str) -> str:
    found = _object(model.metrics_json).get(name)
    return f"{found:.3f}" if isinstance(found, (int, float)) else "–"


def _number(value: object) -> str:
    """What was measured; whoever registered the model may have said it in words."""
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def _object(text: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(text or "{}")
    return found
