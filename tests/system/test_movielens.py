"""Real data through all of it: what is recommended over the network is what the library that trained recommends."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from implicit.als import AlternatingLeastSquares  # type: ignore[import-untyped]  # implicit has no annotations
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]  # nor has scipy

from recommenders.artifact import write_artifact
from recommenders.interactions import Interactions, read_interactions
from recommenders.model import Algorithm, TrainedModel
from recommenders.training import train
from tests.system.clients import Clients
from tests.system.test_recommend import ready
from turnout.inference.v1 import recommendation_service_pb2 as pb

LIMIT = 10
AT_ONCE = 16
CLOSE = 1e-5
"""Relative: single precision, summed in another order."""


@pytest.fixture(scope="module")
def movielens() -> Interactions:
    """MovieLens-100k, which is inside recbole; the package is found and never imported."""
    found = importlib.util.find_spec("recbole")
    if found is None or not found.submodule_search_locations:
        pytest.fail("MovieLens is not here: it is inside recbole, which `make install` installs")
    folder = Path(found.submodule_search_locations[0]) / "dataset_example" / "ml-100k"
    return read_interactions(folder / "ml-100k.inter")


@pytest.fixture(scope="module")
def model(movielens: Interactions) -> TrainedModel:
    """What is served."""
    return train(movielens, Algorithm.ALS, {})


def of_implicit(data: Interactions, model: TrainedModel) -> dict[str, list[tuple[str, float]]]:
    """What implicit recommends to each user by the same factors: unseen items, best first, with their scores."""
    library = AlternatingLeastSquares(factors=1)
    library.user_factors, library.item_factors = model.user_factors, model.item_factors
    seen = csr_matrix((data.values, (data.users, data.items)), shape=(len(data.user_ids), len(data.item_ids)))
    items, scores = library.recommend(np.arange(len(data.user_ids)), seen, N=LIMIT, filter_already_liked_items=True)
    return {
        user: [(data.item_ids[item], float(score)) for item, score in zip(*best, strict=True)]
        for user, *best in zip(data.user_ids, items, scores, strict=True)
    }


@pytest.mark.parametrize("installation", ["all"], indirect=True)
async def test_every_user_of_movielens_is_recommended_what_implicit_recommends(
    shop: Clients, movielens: Interactions, model: TrainedModel, tmp_path: Path
) -> None:
    write_artifact(tmp_path / "als", model)
    uploaded = await shop.upload(tmp_path / "als")
    await shop.create_slots("films", **{uploaded.uid: 100})
    await ready(shop, "films")
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(user: str) -> pb.RecommendResponse:
        async with slots:
            return await shop.recommend("films", user, limit=LIMIT)

    answers = await asyncio.gather(*(ask(user) for user in movielens.user_ids))

    expected = of_implicit(movielens, model)
    assert len(answers) == len(expected) == 943
    for (user, best), answer in zip(expected.items(), answers, strict=True):
        assert (answer.model, answer.cold_start) == (uploaded.uid, False)
        assert [item.item_id for item in answer.items] == [item for item, _ in best], user
        assert [item.score for item in answer.items] == pytest.approx([score for _, score in best], rel=CLOSE), user
