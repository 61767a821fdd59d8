"""Real interactions: MovieLens-100k, which is inside recbole."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from recommenders.interactions import Interactions, read_interactions


@pytest.fixture(scope="session")
def movielens_folder() -> Path:
    """Where the files `ml-100k.inter` and `ml-100k.item` are. The package is found and never imported."""
    found = importlib.util.find_spec("recbole")
    if found is None or not found.submodule_search_locations:
        pytest.fail("MovieLens is not here: it is inside recbole, which `make install` installs")
    return Path(found.submodule_search_locations[0]) / "dataset_example" / "ml-100k"


@pytest.fixture(scope="session")
def movielens(movielens_folder: Path) -> Interactions:
    """All its ratings."""
    return read_interactions(movielens_folder / "ml-100k.inter")
