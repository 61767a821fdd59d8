"""Artifacts: a trained model as a folder of plain arrays and a manifest. `docs/artifacts.md` is their specification."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from kit.errors import Exists
from recommenders import checks
from recommenders.manifest import FORMAT_VERSION as FORMAT_VERSION
from recommenders.manifest import MANIFEST as MANIFEST
from recommenders.manifest import MAX_BYTES, Manifest, parse_manifest, refused, write_manifest
from recommenders.manifest import ArtifactFile as ArtifactFile
from recommenders.model import LAYOUT, Algorithm, Array, TrainedModel
from recommenders.npy import digest_file, map_array, open_regular, write_array
from recommenders.scoring import Recommender

__all__ = [
    "FORMAT_VERSION",
    "MANIFEST",
    "ArtifactFile",
    "Manifest",
    "check_absent",
    "check_artifact",
    "open_artifact",
    "parse_manifest",
    "write_artifact",
]


def check_artifact(folder: Path) -> Manifest:
    """Check everything, to the last number: files and digests, types, shapes, ids, indices, weights.

    Reads each file twice, in pieces; nothing outside the folder, and no link. Needs some MB, and 16 bytes an item.

    :raises Invalid: a reason that begins with `ARTIFACT_`, the file at fault as metadata `file`, and a sentence
    """
    manifest = _manifest(folder)
    arrays = _map(folder, manifest)
    for file in manifest.files:
        if digest_file(folder, file.name) != file.digest:
            raise refused("FILE_CORRUPTED", file.name, "does not have the digest that the manifest gives")
    checks.check_structure(manifest, arrays)
    checks.check_numbers(manifest, arrays)
    return manifest


def open_artifact(folder: Path) -> Recommender:
    """Map an artifact that :func:`check_artifact` has accepted before: only sizes and structure are checked here.

    The folder may be deleted while it is in use; it must not be written to.

    :raises Invalid: as :func:`check_artifact`
    """
    manifest = _manifest(folder)
    arrays = _map(folder, manifest)
    checks.check_structure(manifest, arrays)
    return Recommender(manifest, arrays)


def write_artifact(folder: Path, model: TrainedModel) -> Manifest:
    """Write an artifact, whole or not at all: it is made beside `folder`, synced, and renamed.

    :param folder: must not exist; its parent is made
    :raises Exists: `ARTIFACT_FOLDER_EXISTS`
    """
    check_absent(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        files = tuple(write_array(made, f"{name}.npy", array) for name, array in model.arrays())
        data = write_manifest(
            algorithm=model.algorithm,
            parameters=model.parameters,
            metrics=model.metrics,
            user_count=len(model.user_ids),
            item_count=len(model.item_ids),
            interaction_count=len(model.seen.indices),
            files=files,
        )
        with open(made / MANIFEST, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        made.chmod(0o755)
        _sync_folder(made)
        made.rename(folder)
        _sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    return parse_manifest(data)


def check_absent(folder: Path) -> None:
    """See that an artifact may be written there, before the work that makes it.

    :raises Exists: `ARTIFACT_FOLDER_EXISTS`
    """
    if os.path.lexists(folder):
        raise Exists(f"{folder} exists already; choose another folder", reason="ARTIFACT_FOLDER_EXISTS")


def _manifest(folder: Path) -> Manifest:
    """The manifest, if the folder has what it names and nothing else."""
    with open(open_regular(folder, MANIFEST), "rb") as file:
        manifest = parse_manifest(file.read(MAX_BYTES + 1))
    named = {MANIFEST, *(file.name for file in manifest.files)}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in named:
                name = os.fsencode(entry.name).decode("utf-8", "replace")[:100]
                raise refused("FILE_UNLISTED", name, "is in the folder, but the manifest does not name it")
    return manifest


def _map(folder: Path, manifest: Manifest) -> dict[str, Array]:
    layout = LAYOUT[Algorithm(manifest.algorithm)]
    return {
        name: map_array(folder, file, dtype) for (name, dtype), file in zip(layout.items(), manifest.files, strict=True)
    }


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
