"""An artifact's manifest: what the folder holds, in one JSON document."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from kit.errors import AppError, Invalid
from kit.json import Json, parse_object
from recommenders.model import LAYOUT, Algorithm

FORMAT: Final = "turnout-recommender"
FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
MAX_BYTES: Final = 1 << 20
MAX_ROWS: Final = (1 << 31) - 1
"""Users, or items: rows are numbered with 32 bits."""

_MEMBERS: Final = (
    "format",
    "format_version",
    "algorithm",
    "parameters",
    "metrics",
    "user_count",
    "item_count",
    "interaction_count",
    "files",
)
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """One file of an artifact."""

    name: str
    size_bytes: int
    digest: str
    """BLAKE2b-256 of its bytes, 64 hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact says of itself."""

    digest: str
    """BLAKE2b-256 of the manifest's bytes, 64 hexadecimal digits: since it names the digests of all files, it names the
    whole artifact."""
    algorithm: str
    parameters: dict[str, Json]
    metrics: dict[str, float]
    user_count: int
    item_count: int
    interaction_count: int
    """Different pairs of user and item."""
    files: tuple[ArtifactFile, ...]
    size_bytes: int
    """All files, the manifest included."""


def digest_of(data: bytes) -> str:
    """BLAKE2b-256 (unkeyed), 64 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def refused(reason: str, file: str, message: str) -> Invalid:
    """Why an artifact is not taken: which file is at fault and what is wrong with it."""
    return Invalid(f"{file}: {message}", reason=f"ARTIFACT_{reason}", file=file)


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest. Nothing it says about files is believed before :func:`recommenders.artifact.check_artifact`.

    :raises Invalid: `ARTIFACT_MANIFEST_MALFORMED`, `ARTIFACT_VERSION_UNSUPPORTED` or `ARTIFACT_FILE_NAME`,
        with the file
    """
    try:
        document = parse_object(data, field=MANIFEST, max_bytes=MAX_BYTES)
    except AppError as error:
        raise _malformed(error.message.removeprefix(MANIFEST).strip()) from None
    if document.get("format") != FORMAT:
        raise _malformed(f'is not a manifest of a recommender: "format" must be "{FORMAT}"')
    version = document.get("format_version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise refused(
            "VERSION_UNSUPPORTED", MANIFEST, f"has format_version {version!r}; this Turnout reads {FORMAT_VERSION}"
        )
    if set(document) != set(_MEMBERS):
        missing = [f"misses {name!r}" for name in _MEMBERS if name not in document]
        raise _malformed(
            ", ".join(missing + [f"has unknown {name[:60]!r}" for name in document if name not in _MEMBERS])
        )
    name = document["algorithm"]
    if name not in tuple(Algorithm):
        raise _malformed(f"has an unknown algorithm; known are {', '.join(Algorithm)}")
    algorithm = Algorithm(str(name))
    files = tuple(_file(entry) for entry in _typed(document["files"], list, "files"))
    expected = [f"{array}.npy" for array in LAYOUT[algorithm]]
    if [file.name for file in files] != expected:
        raise _malformed(f'"files" of a model of {algorithm} must be {", ".join(expected)}, in this order')
    return Manifest(
        digest=digest_of(data),
        algorithm=algorithm.value,
        parameters=_typed(document["parameters"], dict, "parameters"),
        metrics={key: _metric(key, value) for key, value in _typed(document["metrics"], dict, "metrics").items()},
        user_count=_count(document, "user_count", MAX_ROWS, least=1),
        item_count=_count(document, "item_count", MAX_ROWS, least=1),
        interaction_count=_count(document, "interaction_count", 1 << 62),
        files=files,
        size_bytes=len(data) + sum(file.size_bytes for file in files),
    )


def write_manifest(
    *,
    algorithm: Algorithm,
    parameters: Mapping[str, Json],
    metrics: Mapping[str, float],
    user_count: int,
    item_count: int,
    interaction_count: int,
    files: tuple[ArtifactFile, ...],
) -> bytes:
    """The document. The same content is always the same bytes, so training twice makes one artifact.

    :raises ValueError: if a metric is not finite
    """
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "algorithm": algorithm.value,
        "parameters": dict(parameters),
        "metrics": dict(metrics),
        "user_count": user_count,
        "item_count": item_count,
        "interaction_count": interaction_count,
        "files": [{"name": file.name, "size_bytes": file.size_bytes, "digest": file.digest} for file in files],
    }
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _file(entry: Json) -> ArtifactFile:
    fields = _typed(entry, dict, "files")
    if set(fields) != {"name", "size_bytes", "digest"}:
        raise _malformed('each of "files" has exactly the members "name", "size_bytes" and "digest"')
    name = _typed(fields["name"], str, "files.name")
    if name not in _NAMES:
        # Names are known ones, so none can lead out of the folder.
        raise refused("FILE_NAME", MANIFEST, f"names a file that no artifact has: {name[:100]!r}")
    digest = _typed(fields["digest"], str, "files.digest")
    if not _DIGEST.fullmatch(digest):
        raise _malformed(f'"digest" of {name} must be 64 hexadecimal digits')
    return ArtifactFile(name, _count(fields, "size_bytes", 1 << 50), digest)


_NAMES: Final = frozenset(f"{array}.npy" for layout in LAYOUT.values() for array in layout)


def _typed(value: Json, kind: type[Value], field: str) -> Value:
    if not isinstance(value, kind):
        raise _malformed(f'"{field}" must be {_KINDS[kind]}')
    return value


_KINDS: Final[Mapping[type, str]] = {dict: "an object", list: "a list", str: "a text"}


def _count(document: Mapping[str, Json], field: str, limit: int, *, least: int = 0) -> int:
    value = document[field]
    if type(value) is not int or not least <= value <= limit:
        raise _malformed(f'"{field}" must be a whole number from {least} to {limit}')
    return value


def _metric(name: str, value: Json) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _malformed(f'"metrics" has {name[:60]!r}, which is not a number')
    return float(value)


def _malformed(message: str) -> Invalid:
    return refused("MANIFEST_MALFORMED", MANIFEST, message)
