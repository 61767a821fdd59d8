"""What a model answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info  # type: ignore[import-untyped]  # it has no annotations

from kit.errors import Unavailable
from recommenders import scoring
from recommenders.artifact import open_artifact, write_artifact
from recommenders.model import Algorithm, TrainedModel
from recommenders.scoring import Answer, Query, Recommender
from tests.recommenders.models import small_model

USERS = [f"u{number:02}" for number in range(20)]


def opened(folder: Path, model: TrainedModel) -> Recommender:
    """The model as it serves."""
    write_artifact(folder / "model", model)
    return open_artifact(folder / "model")


def ids(answer: Answer) -> list[str]:
    return [item.item_id for item in answer.items]


def seen_by(model: TrainedModel, row: int) -> set[str]:
    indices = model.seen.indices[model.seen.indptr[row] : model.seen.indptr[row + 1]]
    return {model.item_ids[index] for index in indices}


@pytest.mark.parametrize("algorithm", Algorithm)
def test_seen_items_are_left_out_unless_asked_for(tmp_path: Path, algorithm: Algorithm) -> None:
    model = small_model(algorithm)
    recommender = opened(tmp_path, model)

    for row, user in enumerate(USERS):
        unseen, all_items = recommender.recommend([Query(user, 50), Query(user, 50, include_seen=True)])
        seen = seen_by(model, row)
        assert seen.isdisjoint(ids(unseen))
        assert seen <= set(ids(all_items))
        assert [item for item in ids(all_items) if item not in seen] == ids(unseen)
        assert not unseen.cold_start


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_batch_answers_what_each_query_gets_alone(tmp_path: Path, algorithm: Algorithm) -> None:
    recommender = opened(tmp_path, small_model(algorithm))
    queries = [
        Query(user, limit, include_seen=flag)
        for user in ["?", *USERS, "u00"]
        for limit in (1, 3, 50)
        for flag in (True, False)
    ]

    together = recommender.recommend(queries)

    for query, answer in zip(queries, together, strict=True):
        [alone] = recommender.recommend([query])
        assert ids(answer) == ids(alone)
        assert [item.score for item in answer.items] == pytest.approx([item.score for item in alone.items], 1e-5, 1e-6)
        assert len(answer.items) <= query.limit
    assert recommender.recommend([]) == []


def test_parts_of_a_batch_for_similarity_are_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recommender = opened(tmp_path, small_model(Algorithm.BM25))
    queries = [Query(user, 10) for user in USERS]
    whole = recommender.recommend(queries)

    for size in (1, 100, 250):
        monkeypatch.setattr(scoring, "_SIMILAR_AT_A_TIME", size)
        assert recommender.recommend(queries) == whole


@pytest.mark.parametrize("algorithm", Algorithm)
def test_unknown_users_get_what_most_users_have(tmp_path: Path, algorithm: Algorithm) -> None:
    model = small_model(algorithm)
    recommender = opened(tmp_path, model)

    [answer] = recommender.recommend([Query("nobody", 1000)])

    assert answer.cold_start
    assert not recommender.knows("nobody")
    assert [item.score for item in answer.items] == sorted(model.popularity.tolist(), reverse=True)
    assert len(set(ids(answer))) == 50


@pytest.mark.parametrize("user", ["", "u", "u0", "u000", "u99", "\0", "\ud800", "u00\0", "🎬"])
def test_strange_users_are_unknown_users(tmp_path: Path, user: str) -> None:
    recommender = opened(tmp_path, small_model(Algorithm.ALS))

    assert not recommender.knows(user)
    assert recommender.recommend([Query(user, 3)])[0].cold_start


def test_factors_are_multiplied_and_the_best_come_first(tmp_path: Path) -> None:
    model = small_model(Algorithm.ALS)
    assert model.user_factors is not None
    assert model.item_factors is not None
    recommender = opened(tmp_path, model)

    [answer] = recommender.recommend([Query("u03", 50, include_seen=True)])

    scores = model.item_factors @ model.user_factors[3]
    order = np.argsort(-scores)
    assert ids(answer) == [f"i{row:03}" for row in order]
    assert [item.score for item in answer.items] == pytest.approx(scores[order].tolist(), rel=1e-5)
    assert [item.title for item in answer.items] == [f"Title {row}" if row % 3 else "" for row in order]


def test_similarities_are_summed_by_what_the_user_gave(tmp_path: Path) -> None:
    model = small_model(Algorithm.BM25)
    assert model.similarity is not None
    assert model.similarity.values is not None
    assert model.seen.values is not None
    recommender = opened(tmp_path, model)

    [answer] = recommender.recommend([Query("u05", 5, include_seen=True)])

    scores = np.zeros(50)
    for at in range(model.seen.indptr[5], model.seen.indptr[6]):
        item = model.seen.indices[at]
        span = slice(model.similarity.indptr[item], model.similarity.indptr[item + 1])
        scores[model.similarity.indices[span]] += model.seen.values[at] * model.similarity.values[span]
    order = np.argsort(-scores)[:5]
    assert ids(answer) == [f"i{row:03}" for row in order]
    assert [item.score for item in answer.items] == pytest.approx(scores[order].tolist(), rel=1e-5)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_threads_do_not_disturb_one_another(tmp_path: Path, algorithm: Algorithm) -> None:
    recommender = opened(tmp_path, small_model(algorithm))
    expected = {user: recommender.recommend([Query(user, 10)]) for user in USERS}

    with ThreadPoolExecutor(8) as threads:
        answers = threads.map(lambda user: (user, recommender.recommend([Query(user, 10)])), USERS * 50)

    assert all(answer == expected[user] for user, answer in answers)


def test_a_closed_model_answers_nobody(tmp_path: Path) -> None:
    recommender = opened(tmp_path, small_model(Algorithm.ALS))
    recommender.close()
    recommender.close()

    with pytest.raises(Unavailable) as refused:
        recommender.recommend([Query("u00", 1)])

    assert refused.value.reason == "MODEL_CLOSED"


def test_one_call_takes_one_core(tmp_path: Path) -> None:
    opened(tmp_path, small_model(Algorithm.ALS))

    numpys = [pool for pool in threadpool_info() if pool["user_api"] == "blas" and "numpy.libs" in pool["filepath"]]
    assert all(pool["num_threads"] == 1 for pool in numpys)
