"""`.npy` files: plain arrays only, read without evaluating anything, mapped and not loaded.

Format: numpy's own, version 1.0 (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), restricted to
what numpy writes for C-ordered arrays of the few dtypes that artifacts have.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
import re
import stat
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recommenders.manifest import ArtifactFile, refused
from recommenders.model import Array

CHUNK_BYTES: Final = 1 << 20
_MAGIC: Final = b"\x93NUMPY\x01\x00"
_HEADER: Final = re.compile(
    rb"\{'descr': '([<|][a-z][1-8])', 'fortran_order': False, 'shape': \((\d{1,18},|\d{1,18}, \d{1,18})\), \} *\n"
)


def open_regular(folder: Path, name: str) -> int:
    """A descriptor of a regular file that lies in the folder itself: no link is followed.

    :raises Invalid: `ARTIFACT_FILE_MISSING` or `ARTIFACT_FILE_NOT_REGULAR`
    """
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise refused("FILE_MISSING", name, "is missing") from None
    except OSError as error:
        raise refused("FILE_NOT_REGULAR", name, f"cannot be read as a plain file: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise refused("FILE_NOT_REGULAR", name, "is not a plain file")
    return descriptor


def digest_file(folder: Path, name: str) -> str:
    """BLAKE2b-256 of a file, read piece by piece."""
    digest = hashlib.blake2b(digest_size=32)
    with open(open_regular(folder, name), "rb", buffering=0) as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def map_array(folder: Path, file: ArtifactFile, dtype: str) -> Array:
    """The file's array, read-only and mapped: pages come from disk when they are touched.

    :param dtype: what it must be, such as `<f4`
    :raises Invalid: `ARTIFACT_FILE_MISSING`, `ARTIFACT_FILE_NOT_REGULAR`, `ARTIFACT_FILE_SIZE`, or
        `ARTIFACT_ARRAY_MALFORMED` if the header is not that of such an array of just this size
    """
    descriptor = open_regular(folder, file.name)
    try:
        size = os.fstat(descriptor).st_size
        if size != file.size_bytes:
            raise refused("FILE_SIZE", file.name, f"is {size} bytes long, but the manifest says {file.size_bytes}")
        shape, start = _header(os.pread(descriptor, 4096, 0), file.name, dtype)
        count = math.prod(shape)
        if start + count * np.dtype(dtype).itemsize != size:
            raise refused("ARRAY_MALFORMED", file.name, f"does not hold the {count} numbers that its header tells of")
        # The map outlives the descriptor, and ends with the last array that shows it.
        mapped = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)
    array: NDArray[Any] = np.frombuffer(mapped, dtype=dtype, count=count, offset=start)
    return array.reshape(shape)


def write_array(folder: Path, name: str, array: Array) -> ArtifactFile:
    """Write and fsync a new file."""
    path = folder / name
    digest = hashlib.blake2b(digest_size=32)
    with open(path, "xb") as file:
        for piece in _pieces(array):
            file.write(piece)
            digest.update(piece)
        file.flush()
        os.fsync(file.fileno())
        return ArtifactFile(name, file.tell(), digest.hexdigest())


def _pieces(array: Array) -> Any:  # bytes and memoryviews: what write() and update() take
    shape = ", ".join(str(length) for length in array.shape) + ("," if array.ndim == 1 else "")
    header = f"{{'descr': '{array.dtype.str}', 'fortran_order': False, 'shape': ({shape}), }}"
    # Numbers begin at a multiple of 64 bytes, as numpy has it.
    length = -(len(_MAGIC) + 2 + len(header) + 1) % 64 + len(header)
    yield _MAGIC + (length + 1).to_bytes(2, "little") + f"{header:<{length}}\n".encode()
    flat = array.reshape(-1).view(np.uint8).data
    for start in range(0, len(flat), CHUNK_BYTES):
        yield flat[start : start + CHUNK_BYTES]


def _header(data: bytes, name: str, dtype: str) -> tuple[tuple[int, ...], int]:
    """Shape, and where the numbers begin."""
    length = int.from_bytes(data[8:10], "little")
    start = 10 + length
    found = _HEADER.fullmatch(data, 10, start) if data.startswith(_MAGIC) and start <= len(data) else None
    if found is None or start % 64:
        raise refused("ARRAY_MALFORMED", name, "is not a plain C-ordered .npy file of version 1.0")
    if found[1].decode() != dtype:
        raise refused("ARRAY_MALFORMED", name, f"has numbers of type {found[1].decode()}, not {dtype}")
    return tuple(int(part) for part in found[2].decode().rstrip(",").split(", ")), start
