from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from kit.status import reason_of
from recommenders.artifact import MANIFEST, check_artifact
from tests.services.inference.answers import details, items_of, said_by
from tests.services.inference.artifacts import write
from tests.services.inference.conftest import RECOMMENDATION, model_entry, pieces_of
from tests.services.inference.fakes import until
from tests.services.scripted_registry import deployment_entry, key_entry, variant
from turnout.inference.v1 import artifact_service_pb2 as artifact_pb

NOT_FOUND = grpc.StatusCode.NOT_FOUND
INVALID = grpc.StatusCode.INVALID_ARGUMENT
UploadRequest = artifact_pb.UploadModelRequest
Header, Chunk = artifact_pb.UploadModelHeader, artifact_pb.UploadModelChunk


async def test_an_upload_is_kept_registered_and_served(room: Any, tmp_path: Path) -> None:
    manifest = write(tmp_path / "made", 5)
    model, trailers = await room.upload(
        pieces_of(tmp_path / "made", display_name="Five", description="of 5", chunk_bytes=100)
    )
    assert (model.uid, model.number, model.digest) == ("mod_0", 1, manifest.digest)
    assert ("turnout-sequence", "7") in trailers
    [request] = room.models.requests
    assert (request.parent, request.on_behalf_of) == ("projects/shop", room.key.split("_")[1])
    assert (request.model.display_name, request.model.description) == ("Five", "of 5")
    assert (request.model.algorithm, json.loads(request.model.parameters_json)["seed"]) == ("als", 5)
    assert check_artifact(room.folder(manifest.digest)) == manifest

    await room.put(
        model_entry(5, manifest.digest), deployment_entry("films", variant("v1", model="mod_5"), kind=RECOMMENDATION)
    )
    assert items_of(await room.recommend()) == said_by(tmp_path / "made", "u00003")


async def test_the_same_upload_again_answers_the_same_model_and_is_kept_once(room: Any, tmp_path: Path) -> None:
    write(tmp_path / "made")
    first, _ = await room.upload(pieces_of(tmp_path / "made"))
    kept = room.kept()
    again = await asyncio.gather(*(room.upload(pieces_of(tmp_path / "made")) for _ in range(3)))
    assert [model.uid for model, _ in again] == [first.uid] * 3
    await room.until_nothing_comes_in()
    assert room.kept() == kept


async def test_a_registry_that_is_down_leaves_the_artifact_for_the_next_try(room: Any, tmp_path: Path) -> None:
    manifest = write(tmp_path / "made")
    room.models.is_down = True
    failure = await room.refused(pieces_of(tmp_path / "made"))
    assert (failure.code(), reason_of(failure)) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
    assert room.folder(manifest.digest).is_dir()
    room.models.is_down = False
    model, _ = await room.upload(pieces_of(tmp_path / "made"))
    assert model.digest == manifest.digest


def spoil(folder: Path, file: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file, and nothing of the manifest."""
    (folder / file).write_bytes(change((folder / file).read_bytes()))


def respell(folder: Path, change: Callable[[dict[str, Any]], None]) -> list[UploadRequest]:
    """An upload whose manifest says something else; its files are sent as they are."""
    pieces = pieces_of(folder)
    document = json.loads((folder / MANIFEST).read_bytes())
    change(document)
    pieces[0].header.manifest = json.dumps(document).encode()
    return pieces


def with_nan(folder: Path) -> list[UploadRequest]:
    """Numbers that are none, with digests that agree."""
    from hashlib import blake2b

    path = folder / "item_factors.npy"
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\xc0\x7f")

    def digest(document: dict[str, Any]) -> None:
        for file in document["files"]:
            if file["name"] == path.name:
                file["digest"] = blake2b(path.read_bytes(), digest_size=32).hexdigest()

    return respell(folder, digest)


def corrupted(folder: Path) -> list[UploadRequest]:
    spoil(folder, "user_factors.npy", lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    return pieces_of(folder)


def truncated(folder: Path) -> list[UploadRequest]:
    return pieces_of(folder)[:-1]


def overlong(folder: Path) -> list[UploadRequest]:
    spoil(folder, "popularity.npy", lambda data: data + b"more")
    return pieces_of(folder)


def sent_twice(folder: Path) -> list[UploadRequest]:
    pieces = pieces_of(folder)
    return [*pieces[:3], pieces[1], *pieces[3:]]


def out_of_order(folder: Path) -> list[UploadRequest]:
    header, first, second, *rest = pieces_of(folder)
    return [header, second, first, *rest]


def of_another_version(folder: Path) -> list[UploadRequest]:
    return respell(folder, lambda document: document.update(format_version=2))


def named(name: str) -> Callable[[Path], list[UploadRequest]]:
    return lambda folder: respell(folder, lambda document: document["files"][0].update(name=name))


def sent_as(name: str) -> Callable[[Path], list[UploadRequest]]:
    def pieces(folder: Path) -> list[UploadRequest]:
        header, first, *rest = pieces_of(folder)
        first.chunk.file = name
        return [header, first, *rest]

    return pieces


def linked(folder: Path) -> list[UploadRequest]:
    """A manifest that was trained, whose file has the content of a link's target: only bytes ever travel."""
    spoil(folder, "item_ids.npy", lambda _: os.fsencode("/etc/passwd"))
    return pieces_of(folder)


@pytest.mark.parametrize(
    ("pieces", "reason", "file"),
    [
        (corrupted, "ARTIFACT_FILE_CORRUPTED", "user_factors.npy"),
        (truncated, "ARTIFACT_FILE_MISSING", "item_factors.npy"),
        (overlong, "ARTIFACT_FILE_TOO_LARGE", "popularity.npy"),
        (with_nan, "ARTIFACT_NOT_FINITE", "item_factors.npy"),
        (of_another_version, "ARTIFACT_VERSION_UNSUPPORTED", MANIFEST),
        (sent_twice, "ARTIFACT_FILE_DUPLICATE", "user_ids.npy"),
        (out_of_order, "ARTIFACT_FILE_ORDER", "user_ids_offsets.npy"),
        (linked, "ARTIFACT_FILE_TRUNCATED", "item_ids.npy"),
        (named("../escaped"), "ARTIFACT_FILE_NAME", MANIFEST),
        (named("/etc/turnout-escaped"), "ARTIFACT_FILE_NAME", MANIFEST),
        (named("a/b"), "ARTIFACT_FILE_NAME", MANIFEST),
        (sent_as("../escaped"), "ARTIFACT_FILE_UNKNOWN", "../escaped"),
        (sent_as("/etc/turnout-escaped"), "ARTIFACT_FILE_UNKNOWN", "/etc/turnout-escaped"),
        (sent_as(MANIFEST), "ARTIFACT_FILE_UNKNOWN", MANIFEST),
    ],
)
async def test_a_bad_artifact_is_refused_with_file_and_reason_and_leaves_nothing(
    room: Any, tmp_path: Path, pieces: Callable[[Path], Sequence[UploadRequest]], reason: str, file: str
) -> None:
    write(tmp_path / "made")
    around = set(tmp_path.iterdir())
    failure = await room.refused(pieces(tmp_path / "made"))
    assert (failure.code(), reason_of(failure)) == (INVALID, reason)
    assert details(failure, error_details_pb2.ErrorInfo).metadata["file"] == file
    await room.until_nothing_comes_in()
    assert room.kept() == []
    assert set(tmp_path.iterdir()) == around
    assert not Path("/etc/turnout-escaped").exists()
    assert room.models.requests == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda pieces: pieces[1:], "UPLOAD_HEADER_MISSING"),
        (lambda pieces: [], "UPLOAD_HEADER_MISSING"),
        (lambda pieces: [pieces[0], pieces[0]], "UPLOAD_HEADER_REPEATED"),
        (lambda pieces: [UploadRequest(), *pieces], "INVALID_REQUEST"),
        (lambda pieces: [UploadRequest(header=Header(parent="shop", manifest=b"{}"))], "RESOURCE_NAME_MALFORMED"),
        (lambda pieces: [UploadRequest(header=Header(parent="projects/shop"))], "INVALID_REQUEST"),
        (lambda pieces: [pieces[0], UploadRequest(chunk=Chunk(file="", data=b"x"))], "INVALID_REQUEST"),
    ],
)
async def test_pieces_that_make_no_upload_are_refused(
    room: Any, tmp_path: Path, change: Callable[[Any], Any], reason: str
) -> None:
    write(tmp_path / "made")
    failure = await room.refused(change(pieces_of(tmp_path / "made")))
    assert (failure.code(), reason_of(failure)) == (INVALID, reason)
    await room.until_nothing_comes_in()
    assert room.kept() == []


async def test_an_upload_to_another_tenants_project_is_not_found(room: Any, tmp_path: Path) -> None:
    write(tmp_path / "made")
    failure = await room.refused(pieces_of(tmp_path / "made", parent="projects/other"))
    assert (failure.code(), reason_of(failure)) == (NOT_FOUND, "PROJECT_NOT_FOUND")
    platform, entry = key_entry("platform:admin", project="")
    await room.put(entry)
    await room.upload(pieces_of(tmp_path / "made", parent="projects/other"), key=platform)
    assert room.models.requests[0].parent == "projects/other"


async def test_a_caller_who_leaves_in_the_middle_of_an_upload_leaves_nothing_behind(room: Any, tmp_path: Path) -> None:
    write(tmp_path / "made")
    pieces = pieces_of(tmp_path / "made")
    call = room.artifact_stub.UploadModel(metadata=(("authorization", f"Bearer {room.key}"),))
    for piece in pieces[:3]:
        await call.write(piece)
    await until(lambda: len(list((room.artifacts / "incoming").glob("*/artifact/*"))) == 3)
    call.cancel()
    await room.until_nothing_comes_in()
    assert room.kept() == []


async def test_an_artifact_beyond_the_setting_is_refused(
    start_room: Callable[[], Any], environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setenv("TURNOUT_INFERENCE_MAX_ARTIFACT_BYTES", "1024")
    write(tmp_path / "made")
    async with start_room() as room:
        failure = await room.refused(pieces_of(tmp_path / "made"))
        assert (failure.code(), reason_of(failure)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ARTIFACT_TOO_LARGE")
        assert room.kept() == []


async def test_a_caller_that_never_stops_sending_hears_the_refusal_all_the_same(room: Any) -> None:
    call = room.artifact_stub.UploadModel(metadata=(("authorization", f"Bearer {room.key}"),), timeout=20)
    await call.write(UploadRequest(header=Header(parent="projects/shop", manifest=b"{")))
    assert await call.code() is INVALID
