"""The catalog's copy on disk, with which a service restarts while the registry is down.

Holds hashes and ciphertext only, in a file that its owner alone can read. Format: the line `turnout-catalog 1`, the
BLAKE2b-256 of the rest as 64 hexadecimal digits and a newline, then the rest: a serialised `CatalogBegin` and the
`CatalogEntry` messages, each behind its length (4 bytes, big-endian).
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from google.protobuf.message import DecodeError

from turnout.registry.v1 import catalog_pb2, catalog_service_pb2

log = logging.getLogger(__name__)

_MAGIC = b"turnout-catalog 1\n"


def write(path: Path, *, epoch: str, sequence: int, entries: Iterable[bytes]) -> None:
    """Replace the copy, whole or not at all.

    :param entries: serialised CatalogEntry messages
    :raises OSError: if the folder cannot be written
    """
    begin = catalog_service_pb2.CatalogBegin(sequence=sequence, epoch=epoch).SerializeToString()
    body = b"".join(len(part).to_bytes(4) + part for part in (begin, *entries))
    digest = blake2b(body, digest_size=32).hexdigest().encode()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # mkstemp makes the file 0600; several workers may write at once, and the last rename wins with a whole file.
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".new")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(_MAGIC + digest + b"\n" + body)
            file.flush()
            os.fsync(file.fileno())
        Path(fresh).replace(path)
    except OSError:
        Path(fresh).unlink(missing_ok=True)
        raise


def read(path: Path) -> tuple[str, int, list[catalog_pb2.CatalogEntry]] | None:
    """Epoch, sequence and entries; None if there is no copy that can be trusted, which is logged but never fatal."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        log.warning("the catalog's disk copy cannot be read", extra={"path": str(path), "error": type(error).__name__})
        return None
    head, body = data[: len(_MAGIC) + 65], data[len(_MAGIC) + 65 :]
    if head != _MAGIC + blake2b(body, digest_size=32).hexdigest().encode() + b"\n":
        log.warning("the catalog's disk copy is damaged or of another format; discarding it", extra={"path": str(path)})
        return None
    parts, offset = [], 0
    while offset < len(body):
        length = int.from_bytes(body[offset : offset + 4])
        parts.append(body[offset + 4 : offset + 4 + length])
        offset += 4 + length
    try:
        begin = catalog_service_pb2.CatalogBegin.FromString(parts[0])
        return begin.epoch, begin.sequence, [catalog_pb2.CatalogEntry.FromString(part) for part in parts[1:]]
    except (DecodeError, IndexError):
        log.warning("the catalog's disk copy is of another format; discarding it", extra={"path": str(path)})
        return None
