from __future__ import annotations

import pytest

from kit.errors import Invalid
from recommenders.artifact import ArtifactFile, Manifest
from services.inference.application.intake import Intake


def manifest(*files: tuple[str, int]) -> Manifest:
    made = tuple(ArtifactFile(name, size, "0" * 64) for name, size in files)
    return Manifest("d" * 64, "als", {}, {}, 1, 1, 1, made, sum(size for _, size in files))


def take_all(files: tuple[tuple[str, int], ...], *pieces: tuple[str, int]) -> None:
    intake = Intake(manifest(*files))
    for name, size in pieces:
        intake.take(name, size)
    intake.end()


def refusal(files: tuple[tuple[str, int], ...], *pieces: tuple[str, int]) -> tuple[str, str]:
    """Reason and file of the failure that these pieces must end in."""
    with pytest.raises(Invalid) as failure:
        take_all(files, *pieces)
    return failure.value.reason, failure.value.metadata["file"]


TWO = (("a.npy", 3), ("b.npy", 2))


def test_files_in_order_to_their_last_byte_are_an_upload() -> None:
    files = (("a.npy", 3), ("empty", 0), ("b.npy", 2), ("end", 0))
    take_all(files, ("a.npy", 2), ("a.npy", 1), ("empty", 0), ("b.npy", 2))


@pytest.mark.parametrize(
    ("pieces", "reason", "file"),
    [
        ([("a.npy", 4)], "ARTIFACT_FILE_TOO_LARGE", "a.npy"),
        ([("a.npy", 3), ("a.npy", 1)], "ARTIFACT_FILE_TOO_LARGE", "a.npy"),
        ([("b.npy", 2)], "ARTIFACT_FILE_ORDER", "b.npy"),
        ([("a.npy", 1), ("b.npy", 2)], "ARTIFACT_FILE_TRUNCATED", "a.npy"),
        ([("a.npy", 3), ("b.npy", 1), ("a.npy", 1)], "ARTIFACT_FILE_DUPLICATE", "a.npy"),
        ([("a.npy", 3), ("b.npy", 2), ("c.npy", 1)], "ARTIFACT_FILE_UNKNOWN", "c.npy"),
        ([("../a.npy", 3)], "ARTIFACT_FILE_UNKNOWN", "../a.npy"),
        ([("manifest.json", 3)], "ARTIFACT_FILE_UNKNOWN", "manifest.json"),
        ([("a.npy", 0)], "ARTIFACT_CHUNK_EMPTY", "a.npy"),
        ([], "ARTIFACT_FILE_MISSING", "a.npy"),
        ([("a.npy", 3)], "ARTIFACT_FILE_MISSING", "b.npy"),
        ([("a.npy", 3), ("b.npy", 1)], "ARTIFACT_FILE_TRUNCATED", "b.npy"),
    ],
)
def test_anything_else_is_refused_with_the_file(pieces: list[tuple[str, int]], reason: str, file: str) -> None:
    assert refusal(TWO, *pieces) == (reason, file)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/b", "..", ".", "", ".hidden", "manifest.json", "a\0b", "A.npy", "é", "x" * 101]
)
def test_a_name_that_could_lead_anywhere_else_is_refused_before_anything_is_taken(name: str) -> None:
    assert refusal(((name, 1),)) == ("ARTIFACT_FILE_NAME", name[:100])


def test_two_files_of_one_name_are_refused() -> None:
    assert refusal((("a.npy", 1), ("a.npy", 1))) == ("ARTIFACT_FILE_NAME", "a.npy")
