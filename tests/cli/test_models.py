"""`turnout models`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from cli import models
from recommenders.artifact import write_artifact
from recommenders.model import Algorithm
from tests.cli.services import Models
from tests.cli.test_train import done, registry, told, turnout
from tests.recommenders.models import small_model

__all__ = ["registry", "turnout"]


@pytest.fixture
def uploaded(turnout: Callable[..., Result], tmp_path: Path) -> Callable[..., Result]:
    """The command, with three models of different sizes."""
    for number, algorithm in enumerate(Algorithm):
        write_artifact(tmp_path / algorithm, small_model(algorithm, items=50 + number))
        done(turnout("models", "upload", algorithm, "--name", f"[red]{algorithm}[/red]"))
    return turnout


def test_models_are_listed_over_pages(uploaded: Callable[..., Result]) -> None:
    lines = done(uploaded("models", "list")).splitlines()

    assert [line.split()[:4] for line in lines[1:]] == [
        ["1", "mod_1", "[red]als[/red]", "als"],
        ["2", "mod_2", "[red]bm25[/red]", "bm25"],
        ["3", "mod_3", "[red]popularity[/red]", "popularity"],
    ]
    assert len(done(uploaded("models", "list", "--limit", "2")).splitlines()) == 3
    assert [model["uid"] for model in json.loads(done(uploaded("--json", "models", "list")))] == [
        "mod_1",
        "mod_2",
        "mod_3",
    ]


def test_a_small_model_has_its_size_in_kilobytes(uploaded: Callable[..., Result], registry: Models) -> None:
    written = f"{registry.models[0].size_bytes / 1000:,.1f} kB"

    assert 1000 < registry.models[0].size_bytes < 1_000_000
    assert written in done(uploaded("models", "list"))
    assert written in done(uploaded("models", "show", "1"))


@pytest.mark.parametrize(
    ("size", "text"),
    [(1, "0.0 kB"), (3_240, "3.2 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (12_345_678_901, "12,345.7 MB")],
)
def test_sizes_are_written_in_the_unit_that_fits(size: int, text: str) -> None:
    assert models.size_text(size) == text


def test_a_model_is_shown_by_number_and_by_uid(uploaded: Callable[..., Result], registry: Models) -> None:
    by_number, by_uid = done(uploaded("models", "show", "2")), done(uploaded("models", "show", "mod_2"))

    assert by_number == by_uid
    assert registry.models[1].digest in by_number
    assert "metric ndcg@10" in by_number
    assert json.loads(done(uploaded("--json", "models", "show", "2")))["algorithm"] == "bm25"
    assert "NOT_FOUND" in told(uploaded("models", "show", "9"))


def test_a_model_is_taken_out_of_use_and_brought_back(uploaded: Callable[..., Result], registry: Models) -> None:
    assert done(uploaded("models", "archive", "2")) == "model 2 is archived\n"
    assert [model.archived for model in registry.models] == [False, True, False]
    assert "[red]bm25[/red] (archived)" in done(uploaded("models", "list"))
    assert done(uploaded("models", "unarchive", "mod_2")) == "model 2 is in use again\n"
    assert [model.archived for model in registry.models] == [False] * 3
    assert json.loads(done(uploaded("--json", "models", "archive", "3")))["archived"] is True


def test_what_was_measured_is_shown_also_where_it_is_no_number(
    uploaded: Callable[..., Result], registry: Models
) -> None:
    registry.models[0].metrics_json = '{"ndcg@10": 0.125, "split": "last", "curve": [1, 2], "none": null}'

    shown = done(uploaded("models", "show", "1"))

    lines = {line.partition("  ")[0]: line.partition("  ")[2].strip() for line in shown.splitlines()}
    assert {name: value for name, value in lines.items() if name.startswith("metric")} == {
        "metric ndcg@10": "0.125",
        "metric split": "last",
        "metric curve": "[1, 2]",
        "metric none": "None",
    }
    assert "mod_1" in done(uploaded("models", "list"))


def test_large_files_are_sent_in_pieces_of_a_mebibyte(
    turnout: Callable[..., Result], registry: Models, tmp_path: Path
) -> None:
    write_artifact(tmp_path / "large", small_model(Algorithm.ALS, items=1000, factors=1000))

    done(turnout("models", "upload", "large"))

    assert max(registry.chunk_sizes) == 1 << 20
    assert sum(registry.chunk_sizes) > 4_000_000


def test_a_broken_artifact_is_not_sent(turnout: Callable[..., Result], registry: Models, tmp_path: Path) -> None:
    write_artifact(tmp_path / "model", small_model(Algorithm.ALS))
    path = tmp_path / "model" / "item_factors.npy"
    path.write_bytes(path.read_bytes()[:-4] + np.float32(np.nan).tobytes())

    failure = told(turnout("models", "upload", "model"))

    assert failure.startswith("item_factors.npy")
    assert "ARTIFACT_FILE_CORRUPTED" in failure
    assert registry.keys == []
    assert "ARTIFACT_FILE_MISSING" in told(turnout("models", "upload", "nowhere"))
