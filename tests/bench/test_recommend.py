"""The benchmark of recommending: it runs, and it fails when an answer is wrong."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench import recommend
from recommenders.artifact import open_artifact, write_artifact


def test_it_measures_every_way_to_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["recommend", "--items", "1000", "--seconds", "0.05", "--json", str(path)])

    assert recommend.main() == 0

    measured = json.loads(path.read_text())
    assert [(row["name"], row["at_once"]) for row in measured["rows"]] == [
        ("Turnout", 1),
        ("Turnout", 64),
        ("implicit", 1),
        ("implicit", 64),
    ]
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in measured["rows"])
    assert measured["memory"][0]["sum_ms"] > 0


def test_it_finds_answers_that_are_not_exact(tmp_path: Path) -> None:
    model = recommend.made(1000)
    assert model.user_factors is not None
    write_artifact(tmp_path / "model", model)
    recommender = open_artifact(tmp_path / "model")

    assert recommend.wrong(model, recommender) == 0
    assert recommend.wrong(replace(model, user_factors=-model.user_factors), recommender) == 128
