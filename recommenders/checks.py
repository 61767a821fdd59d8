"""What must hold of an artifact's numbers. Goes through them in pieces, so that their size does not matter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from kit.errors import Invalid
from recommenders.manifest import Manifest, refused
from recommenders.model import Algorithm, Array

MAX_ID_LENGTH: Final = 256
"""Characters of a user's or an item's id."""
MAX_TITLE_LENGTH: Final = 1000
MAX_FACTORS: Final = 4096
MAX_MAGNITUDE: Final = 1e12
"""Of any weight: sums of products of such numbers stay finite in 32 bits."""
_PIECE: Final = 1 << 20
_TEXTS: Final = 1 << 14

Arrays = Mapping[str, Array]


def check_structure(manifest: Manifest, arrays: Arrays) -> None:
    """Shapes agree with one another and with the manifest. Touches a few numbers only.

    :raises Invalid: `ARTIFACT_SHAPE`, with the file
    """
    users, items, pairs = manifest.user_count, manifest.item_count, manifest.interaction_count
    expected: dict[str, tuple[int, ...]] = {
        "user_ids_offsets": (users + 1,),
        "item_ids_offsets": (items + 1,),
        "item_titles_offsets": (items + 1,),
        "popularity": (items,),
        "seen_indptr": (users + 1,),
        "seen_indices": (pairs,),
        "seen_data": (pairs,),
        "similarity_indptr": (items + 1,),
    }
    if manifest.algorithm == Algorithm.ALS:
        factors = arrays["user_factors"].shape[-1]
        if not 1 <= factors <= MAX_FACTORS:
            raise refused("SHAPE", "user_factors.npy", f"must have 1 to {MAX_FACTORS} factors, has {factors}")
        expected |= {"user_factors": (users, factors), "item_factors": (items, factors)}
    if manifest.algorithm == Algorithm.BM25:
        expected["similarity_data"] = arrays["similarity_indices"].shape
    for name, array in arrays.items():
        wanted = expected.get(name, (array.size,))
        if array.shape != wanted:
            raise refused("SHAPE", f"{name}.npy", f"has the shape {array.shape}, must have {wanted}")
    for first, last in (
        ("user_ids_offsets", "user_ids"),
        ("item_ids_offsets", "item_ids"),
        ("item_titles_offsets", "item_titles"),
        ("seen_indptr", "seen_indices"),
        ("similarity_indptr", "similarity_indices"),
    ):
        if first in arrays and (arrays[first][0] != 0 or arrays[first][-1] != len(arrays[last])):
            raise refused("SHAPE", f"{first}.npy", f"must begin with 0 and end with the length of {last}.npy")


def check_numbers(manifest: Manifest, arrays: Arrays) -> None:
    """Every number is one that answers can be made of.

    :raises Invalid: `ARTIFACT_OFFSETS`, `ARTIFACT_TEXT`, `ARTIFACT_IDS`, `ARTIFACT_INDICES`, `ARTIFACT_NOT_FINITE` or
        `ARTIFACT_POPULARITY`, with the file
    """
    for name in ("user_ids", "item_ids", "item_titles"):
        _ascending(arrays, f"{name}_offsets")
        _texts(arrays, name, MAX_TITLE_LENGTH if name == "item_titles" else MAX_ID_LENGTH)
    for name in ("seen", "similarity"):
        if f"{name}_indptr" in arrays:
            _ascending(arrays, f"{name}_indptr")
            _rows(arrays, name, manifest.item_count)
    for name in ("user_factors", "item_factors", "seen_data", "similarity_data"):
        if name in arrays:
            _weights(arrays, name)
    _popularity(arrays)


def _ascending(arrays: Arrays, name: str) -> None:
    offsets = arrays[name]
    for start in range(0, len(offsets) - 1, _PIECE):
        if (np.diff(offsets[start : start + _PIECE + 1]) < 0).any():
            raise refused("OFFSETS", f"{name}.npy", "must never descend")


def _texts(arrays: Arrays, name: str, longest: int) -> None:
    """UTF-8 without NUL and of bounded length; ids also ascend, are all different and not empty."""
    offsets, blob, is_id = arrays[f"{name}_offsets"], arrays[name], name != "item_titles"
    before: bytes | None = None
    for start in range(0, len(offsets) - 1, _TEXTS):
        ends = np.array(offsets[start : start + _TEXTS + 1])
        lengths = np.diff(ends)
        too_long = np.flatnonzero(lengths > 4 * longest)
        if len(too_long):
            raise _fault(name, start + int(too_long[0]), f"is longer than {longest} characters")
        piece = blob[ends[0] : ends[-1]]
        ends -= ends[0]
        begins = np.concatenate(([0], np.cumsum((piece & 0xC0) != 0x80)))
        characters = np.diff(begins[ends])
        data = piece.tobytes()
        texts = [data[ends[i] : ends[i + 1]] for i in range(len(lengths))]
        if (characters > longest).any():
            raise _fault(name, start + int(np.argmax(characters > longest)), f"is longer than {longest} characters")
        if not _is_utf8(data) or not all(map(_begins_character, texts)):
            raise _fault(name, start + [_is_utf8(text) for text in texts].index(False), "is not UTF-8")
        if b"\0" in data:
            raise _fault(name, start + [b"\0" in text for text in texts].index(True), "has a NUL character")
        if is_id:
            if not lengths.all():
                raise _fault(name, start + int(np.argmin(lengths)), "is empty")
            for row, text in enumerate(texts, start):
                if before is not None and text <= before:
                    raise _fault(name, row, "must come behind the one before it: ids ascend by their bytes, once each")
                before = text


def _begins_character(text: bytes) -> bool:
    return not text or text[0] & 0xC0 != 0x80


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _fault(name: str, row: int, message: str) -> Invalid:
    return refused("TEXT" if name == "item_titles" else "IDS", f"{name}.npy", f"number {row} {message}")


def _rows(arrays: Arrays, name: str, columns: int) -> None:
    """Columns exist, and ascend within a row."""
    indptr, indices = arrays[f"{name}_indptr"], arrays[f"{name}_indices"]
    for start, piece in _pieces(indices):
        if len(piece) and not (piece.min() >= 0 and piece.max() < columns):
            raise refused("INDICES", f"{name}_indices.npy", f"has an item that is not from 0 to {columns - 1}")
        # Each number against the one before it; only the first of a row may be less.
        steps = np.diff(indices[max(start - 1, 0) : start + len(piece)]) <= 0
        suspects = np.flatnonzero(steps) + max(start, 1)
        if len(suspects) and not _starts(indptr, suspects):
            raise refused("INDICES", f"{name}_indices.npy", "must ascend within a row, each item once")


def _starts(indptr: Array, positions: Array) -> bool:
    """Whether each position is where some row starts."""
    found = np.searchsorted(indptr, positions)
    return bool((indptr[found] == positions).all())


def _weights(arrays: Arrays, name: str) -> None:
    for _, piece in _pieces(arrays[name].reshape(-1)):
        # NaN is not less than anything.
        if not (np.abs(piece) <= MAX_MAGNITUDE).all():
            raise refused(
                "NOT_FINITE", f"{name}.npy", f"has a number that is NaN, infinite or beyond ±{MAX_MAGNITUDE:g}"
            )


def _popularity(arrays: Arrays) -> None:
    popularity, counted = arrays["popularity"], np.zeros(len(arrays["popularity"]), dtype=np.int64)
    for _, piece in _pieces(arrays["seen_indices"]):
        counted += np.bincount(piece, minlength=len(counted))
    if not np.array_equal(popularity, counted):
        raise refused("POPULARITY", "popularity.npy", "is not how many users each item has in seen_indices.npy")


def _pieces(array: Array) -> Iterator[tuple[int, Array]]:
    return ((start, array[start : start + _PIECE]) for start in range(0, len(array), _PIECE))
