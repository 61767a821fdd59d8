"""What is written is read back; what is broken is refused, with the file and the reason."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kit.errors import Exists, Invalid
from recommenders.artifact import MANIFEST, check_artifact, open_artifact, parse_manifest, write_artifact
from recommenders.manifest import digest_of
from recommenders.model import Algorithm, Rows, TrainedModel
from recommenders.scoring import Query
from recommenders.texts import Texts
from tests.recommenders.models import small_model


def refusal(check: Callable[[], object]) -> tuple[str, str]:
    """Reason and file of what is refused; the sentence begins with the file."""
    with pytest.raises(Invalid) as refused:
        check()
    error = refused.value
    assert error.message.startswith(error.metadata["file"])
    return error.reason, error.metadata["file"]


def rewritten(folder: Path, **members: Any) -> None:
    """The manifest with other members."""
    document = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(document | members))


def replaced(folder: Path, name: str, array: np.ndarray[Any, Any]) -> None:
    """An array in the place of another one, with a manifest that says so."""
    np.save(folder / name, array, allow_pickle=False)
    data = (folder / name).read_bytes()
    document = json.loads((folder / MANIFEST).read_text())
    for file in document["files"]:
        if file["name"] == name:
            file |= {"size_bytes": len(data), "digest": digest_of(data)}
    (folder / MANIFEST).write_text(json.dumps(document))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact for BM25 beside which nothing lies."""
    write_artifact(tmp_path / "model", small_model(Algorithm.BM25))
    return tmp_path / "model"


@pytest.fixture
def als(tmp_path: Path) -> Path:
    """An artifact for ALS."""
    write_artifact(tmp_path / "als", small_model(Algorithm.ALS))
    return tmp_path / "als"


@pytest.mark.parametrize("algorithm", Algorithm)
def test_what_is_written_passes_every_check_and_says_what_it_is(tmp_path: Path, algorithm: Algorithm) -> None:
    model = small_model(algorithm)

    written = write_artifact(tmp_path / "model", model)

    assert check_artifact(tmp_path / "model") == written
    assert written == parse_manifest((tmp_path / "model" / MANIFEST).read_bytes())
    assert (written.algorithm, written.user_count, written.item_count) == (algorithm, 20, 50)
    assert written.interaction_count == len(model.seen.indices)
    assert written.metrics == {"ndcg@10": 0.25}
    assert written.size_bytes == sum(path.stat().st_size for path in (tmp_path / "model").iterdir())


def test_the_arrays_are_what_numpy_itself_reads(als: Path) -> None:
    factors = small_model(Algorithm.ALS).item_factors
    assert factors is not None

    assert np.array_equal(np.load(als / "item_factors.npy", allow_pickle=False), factors)
    assert np.load(als / "item_factors.npy", mmap_mode="r").flags.c_contiguous


def test_the_same_model_is_the_same_artifact(tmp_path: Path) -> None:
    first, second = (write_artifact(tmp_path / name, small_model(Algorithm.ALS)) for name in ("a", "b"))
    other = write_artifact(tmp_path / "c", small_model(Algorithm.ALS, seed=1))

    assert first.digest == second.digest
    assert other.digest != first.digest


def test_nothing_is_left_of_a_write_that_failed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs item_factors"):
        write_artifact(tmp_path / "model", replace(small_model(Algorithm.ALS), item_factors=None))

    assert list(tmp_path.iterdir()) == []


def test_an_artifact_never_replaces_another(folder: Path) -> None:
    before = (folder / MANIFEST).read_bytes()

    with pytest.raises(Exists) as refused:
        write_artifact(folder, small_model(Algorithm.ALS))

    assert refused.value.reason == "ARTIFACT_FOLDER_EXISTS"
    assert (folder / MANIFEST).read_bytes() == before


def test_a_flipped_bit_anywhere_is_found(folder: Path) -> None:
    for path in sorted(folder.glob("*.npy")):
        whole = path.read_bytes()
        for position in (0, 20, len(whole) - 1):
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            reason, file = refusal(lambda: check_artifact(folder))
            assert file == path.name
            assert reason in {"ARTIFACT_FILE_CORRUPTED", "ARTIFACT_ARRAY_MALFORMED"}
        path.write_bytes(whole)
    check_artifact(folder)


def test_a_file_cut_short_or_longer_or_gone_is_found_when_opened(als: Path) -> None:
    path = als / "item_factors.npy"
    whole = path.read_bytes()

    for content in (whole[:-1], whole[:64], b"", whole + b"\0"):
        path.write_bytes(content)
        assert refusal(lambda: open_artifact(als)) == ("ARTIFACT_FILE_SIZE", path.name)
    path.unlink()
    assert refusal(lambda: open_artifact(als)) == ("ARTIFACT_FILE_MISSING", path.name)
    (als / MANIFEST).unlink()
    assert refusal(lambda: check_artifact(als)) == ("ARTIFACT_FILE_MISSING", MANIFEST)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("name", ["user_factors", "item_factors"])
def test_a_number_that_is_none_is_found(als: Path, name: str, bad: float) -> None:
    array = np.load(als / f"{name}.npy")
    array[-1, -1] = bad
    replaced(als, f"{name}.npy", array)

    assert refusal(lambda: check_artifact(als)) == ("ARTIFACT_NOT_FINITE", f"{name}.npy")


def test_links_folders_and_pipes_are_no_files(als: Path, tmp_path: Path) -> None:
    path = als / "item_factors.npy"
    path.rename(tmp_path / "elsewhere.npy")

    path.symlink_to(tmp_path / "elsewhere.npy")
    assert refusal(lambda: check_artifact(als)) == ("ARTIFACT_FILE_NOT_REGULAR", path.name)
    path.unlink()
    path.mkdir()
    assert refusal(lambda: check_artifact(als)) == ("ARTIFACT_FILE_NOT_REGULAR", path.name)
    path.rmdir()
    os.mkfifo(path)
    assert refusal(lambda: check_artifact(als)) == ("ARTIFACT_FILE_NOT_REGULAR", path.name)


def test_what_the_manifest_does_not_name_is_refused(folder: Path) -> None:
    (folder / "model.pkl").write_bytes(b"")

    assert refusal(lambda: check_artifact(folder)) == ("ARTIFACT_FILE_UNLISTED", "model.pkl")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/user_ids.npy", "user_ids.npy\0", "", "é" * 300])
def test_names_that_lead_elsewhere_are_refused(folder: Path, name: str) -> None:
    files = json.loads((folder / MANIFEST).read_text())["files"]
    rewritten(folder, files=[files[0] | {"name": name}, *files[1:]])

    assert refusal(lambda: check_artifact(folder)) == ("ARTIFACT_FILE_NAME", MANIFEST)


@pytest.mark.parametrize("version", [0, 2, "1", 1.0, True, None])
def test_other_versions_are_refused(folder: Path, version: object) -> None:
    rewritten(folder, format_version=version)

    assert refusal(lambda: check_artifact(folder)) == ("ARTIFACT_VERSION_UNSUPPORTED", MANIFEST)


@pytest.mark.parametrize(
    "members",
    [
        {"format": "something else"},
        {"algorithm": "deep"},
        {"algorithm": ["als"]},
        {"algorithm": "als"},
        {"user_count": -1},
        {"user_count": 0},
        {"user_count": 20.0},
        {"item_count": 1 << 31},
        {"metrics": {"ndcg": "good"}},
        {"metrics": []},
        {"parameters": None},
        {"files": []},
        {"files": [1]},
        {"files": "user_ids.npy"},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_manifest_that_says_nonsense_is_refused(folder: Path, members: dict[str, Any]) -> None:
    rewritten(folder, **members)

    assert refusal(lambda: check_artifact(folder)) == ("ARTIFACT_MANIFEST_MALFORMED", MANIFEST)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"format": NaN}', b" " * ((1 << 20) + 1)], ids=len
)
def test_a_manifest_that_is_no_json_object_is_refused(data: bytes) -> None:
    assert refusal(lambda: parse_manifest(data)) == ("ARTIFACT_MANIFEST_MALFORMED", MANIFEST)


def test_files_twice_are_refused(folder: Path) -> None:
    files = json.loads((folder / MANIFEST).read_text())["files"]
    rewritten(folder, files=[*files, files[0]])

    assert refusal(lambda: check_artifact(folder)) == ("ARTIFACT_MANIFEST_MALFORMED", MANIFEST)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((50, 8), dtype=np.float64),
        np.zeros((50, 8), dtype=">f4"),
        np.asfortranarray(np.zeros((50, 8), dtype=np.float32)),
        np.zeros((), dtype=np.float32),
        np.zeros((50, 8, 1), dtype=np.float32),
        np.zeros(50, dtype=[("a", "<f4")]),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_arrays_of_another_kind_are_refused(als: Path, array: np.ndarray[Any, Any]) -> None:
    replaced(als, "item_factors.npy", array)

    assert refusal(lambda: check_artifact(als)) == ("ARTIFACT_ARRAY_MALFORMED", "item_factors.npy")


def test_pickles_are_refused_unread(als: Path) -> None:
    np.save(als / "item_factors.npy", np.array([object()]), allow_pickle=True)
    replaced_size = (als / "item_factors.npy").read_bytes()
    files = json.loads((als / MANIFEST).read_text())["files"]
    for file in files:
        if file["name"] == "item_factors.npy":
            file |= {"size_bytes": len(replaced_size), "digest": digest_of(replaced_size)}
    rewritten(als, files=files)

    assert refusal(lambda: open_artifact(als)) == ("ARTIFACT_ARRAY_MALFORMED", "item_factors.npy")


@pytest.mark.parametrize("shape", [(49, 8), (51, 8), (50, 7), (400,), (8, 50), (50, 0)])
def test_shapes_that_do_not_fit_together_are_refused(als: Path, shape: tuple[int, ...]) -> None:
    replaced(als, "item_factors.npy", np.zeros(shape, dtype=np.float32))

    assert refusal(lambda: open_artifact(als))[0] == "ARTIFACT_SHAPE"


@pytest.mark.parametrize(
    ("name", "change", "reason", "blamed"),
    [
        ("seen_indices", lambda a: a.__setitem__(0, 50), "INDICES", "seen_indices"),
        ("seen_indices", lambda a: a.__setitem__(0, -1), "INDICES", "seen_indices"),
        ("seen_indices", lambda a: a.__setitem__(1, a[0]), "INDICES", "seen_indices"),
        ("seen_indices", lambda a: a.__setitem__(slice(0, 2), a[1::-1].copy()), "INDICES", "seen_indices"),
        ("similarity_indices", lambda a: a.__setitem__(-1, 50), "INDICES", "similarity_indices"),
        ("seen_indptr", lambda a: a.__setitem__(1, a[2] + 1), "OFFSETS", "seen_indptr"),
        ("seen_indptr", lambda a: a.__setitem__(1, -5), "OFFSETS", "seen_indptr"),
        ("seen_indptr", lambda a: a.__setitem__(-1, a[-1] + 1), "SHAPE", "seen_indptr"),
        ("similarity_indptr", lambda a: a.__setitem__(0, 1), "SHAPE", "similarity_indptr"),
        ("seen_data", lambda a: a.__setitem__(0, np.nan), "NOT_FINITE", "seen_data"),
        ("similarity_data", lambda a: a.__setitem__(-1, np.inf), "NOT_FINITE", "similarity_data"),
        ("popularity", lambda a: a.__setitem__(3, a[3] + 1), "POPULARITY", "popularity"),
        ("user_ids_offsets", lambda a: a.__setitem__(1, 100), "OFFSETS", "user_ids_offsets"),
        ("user_ids_offsets", lambda a: a.__setitem__(1, 0), "IDS", "user_ids"),
        ("user_ids", lambda a: a.__setitem__(0, 0xFF), "IDS", "user_ids"),
        ("user_ids", lambda a: a.__setitem__(slice(2, 4), (0xC3, 0xA9)), "IDS", "user_ids"),
        ("item_ids", lambda a: a.__setitem__(0, 0), "IDS", "item_ids"),
        ("item_ids", lambda a: a.__setitem__(slice(0, 4), a[4:8].copy()), "IDS", "item_ids"),
        ("item_ids", lambda a: a.__setitem__(0, ord("j")), "IDS", "item_ids"),
        ("item_titles", lambda a: a.__setitem__(0, 0x80), "TEXT", "item_titles"),
        ("item_titles", lambda a: a.__setitem__(5, 0), "TEXT", "item_titles"),
    ],
)
def test_numbers_that_no_answer_can_be_made_of_are_refused(
    folder: Path, name: str, change: Callable[[np.ndarray[Any, Any]], None], reason: str, blamed: str
) -> None:
    array = np.load(folder / f"{name}.npy")
    change(array)
    replaced(folder, f"{name}.npy", array)

    assert refusal(lambda: check_artifact(folder)) == (f"ARTIFACT_{reason}", f"{blamed}.npy")


def test_ids_may_be_any_text_of_256_characters_and_no_longer(tmp_path: Path) -> None:
    ids = sorted(["a\nb", "Ünï", "日本", "🎬" * 256, " ", "../..", "'; DROP"], key=str.encode)
    model = replace(small_model(Algorithm.ALS, users=7), user_ids=Texts.of(ids))
    write_artifact(tmp_path / "good", model)
    write_artifact(tmp_path / "bad", replace(model, user_ids=Texts.of([*ids[:-1], "🎬" * 257])))

    check_artifact(tmp_path / "good")
    assert refusal(lambda: check_artifact(tmp_path / "bad")) == ("ARTIFACT_IDS", "user_ids.npy")
    opened = open_artifact(tmp_path / "good")
    assert all(opened.knows(user) for user in ids)


def test_a_rows_first_item_may_be_less_than_the_last_ones_of_the_row_before(tmp_path: Path) -> None:
    seen = Rows(np.array([0, 2, 2, 3]), np.array([3, 4, 0], dtype=np.int32))
    model: TrainedModel = replace(
        small_model(Algorithm.POPULARITY, users=3, items=5), seen=seen, popularity=np.array([1, 0, 0, 1, 1])
    )

    write_artifact(tmp_path / "model", model)

    assert check_artifact(tmp_path / "model").interaction_count == 3


def test_a_folder_that_is_deleted_still_answers(als: Path) -> None:
    opened = open_artifact(als)
    for path in als.iterdir():
        path.unlink()

    opened.warm()
    assert len(opened.recommend([Query("u00", 5)])[0].items) == 5
