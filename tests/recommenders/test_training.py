"""Trained models answer as implicit itself does."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from implicit.als import AlternatingLeastSquares  # type: ignore[import-untyped]  # it has no annotations
from implicit.nearest_neighbours import BM25Recommender  # type: ignore[import-untyped]  # nor here
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]  # nor scipy
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # nor threadpoolctl

from kit.errors import Invalid, Precondition
from recommenders import training
from recommenders.artifact import check_artifact, open_artifact, write_artifact
from recommenders.interactions import Interactions, read_interactions
from recommenders.model import Algorithm
from recommenders.scoring import Answer, Query
from recommenders.texts import Texts
from recommenders.training import settings, train, train_and_evaluate

PARAMETERS: dict[Algorithm, dict[str, float]] = {
    Algorithm.ALS: {"factors": 32, "iterations": 10, "seed": 7},
    Algorithm.BM25: {"neighbours": 50},
    Algorithm.POPULARITY: {},
}


def implicits_own(algorithm: Algorithm, matrix: csr_matrix) -> Any:
    """The same model, made by implicit alone."""
    with threadpool_limits(1, user_api="blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if algorithm is Algorithm.ALS:
            model = AlternatingLeastSquares(factors=32, iterations=10, regularization=0.05, random_state=7)
        else:
            model = BM25Recommender(K=50, K1=1.2, B=0.75)
        model.fit(matrix, show_progress=False)
    return model


def assert_same(answer: Answer, rows: Sequence[int], scores: Sequence[float], names: Texts) -> None:
    """The same items in the same order; items of equal scores, up to rounding, may change places."""
    mine = [item.score for item in answer.items]
    np.testing.assert_allclose(mine, scores, rtol=1e-5)
    theirs = [names[row] for row in rows]
    for place, item in enumerate(answer.items):
        if item.item_id != theirs[place]:
            equal = [other for other, score in enumerate(scores) if np.isclose(score, item.score, rtol=1e-5)]
            at_the_end = len(scores) - 1 in equal
            assert len(equal) > 1 or at_the_end
            assert at_the_end or item.item_id in {theirs[other] for other in equal}


@pytest.mark.parametrize("include_seen", [False, True])
@pytest.mark.parametrize("algorithm", [Algorithm.ALS, Algorithm.BM25])
def test_all_users_of_movielens_get_implicits_own_lists(
    tmp_path: Path, movielens: Interactions, algorithm: Algorithm, include_seen: bool
) -> None:
    write_artifact(tmp_path / "model", train(movielens, algorithm, PARAMETERS[algorithm]))
    check_artifact(tmp_path / "model")
    recommender = open_artifact(tmp_path / "model")
    matrix = csr_matrix((movielens.values, (movielens.users, movielens.items)))
    reference = implicits_own(algorithm, matrix)

    users = list(movielens.user_ids)
    answers: list[Answer] = []
    for start in range(0, len(users), 64):
        answers += recommender.recommend([Query(user, 20, include_seen) for user in users[start : start + 64]])

    assert len(answers) == 943
    for row, answer in enumerate(answers):
        rows, scores = reference.recommend(row, matrix[row], N=20, filter_already_liked_items=not include_seen)
        assert not answer.cold_start
        assert_same(answer, rows, scores, movielens.item_ids)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_training_twice_makes_one_model(tmp_path: Path, movielens: Interactions, algorithm: Algorithm) -> None:
    first, second = (
        write_artifact(tmp_path / name, train(movielens, algorithm, PARAMETERS[algorithm])) for name in ("a", "b")
    )

    assert first.digest == second.digest


@pytest.mark.parametrize("algorithm", [Algorithm.ALS, Algorithm.BM25])
def test_models_know_better_than_popularity_what_comes_next(movielens: Interactions, algorithm: Algorithm) -> None:
    trained = train_and_evaluate(movielens, algorithm, PARAMETERS[algorithm])

    assert trained.evaluation is not None
    ndcg = trained.evaluation.rows[0]
    assert ndcg.name == "ndcg@10"
    assert ndcg.difference.low is not None
    assert ndcg.difference.low > 0.02
    assert trained.model.metrics["ndcg@10"] == ndcg.model.mean
    assert trained.evaluation.user_count == 943
    # The model itself is fitted on everything.
    assert len(trained.model.seen.indices) == len(movielens)


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize(
    "rows", ["a,x", "a,x\na,y", "a,x\nb,x", "a,x\nb,y", "a,x\na,y\nb,x\nb,y\nc,x"], ids=lambda rows: rows.split("\n")
)
def test_few_interactions_make_a_model_too(tmp_path: Path, algorithm: Algorithm, rows: str) -> None:
    path = tmp_path / "few.csv"
    path.write_text(f"user,item\n{rows}\n")
    data = read_interactions(path)

    trained = train_and_evaluate(data, algorithm, {})
    write_artifact(tmp_path / "model", trained.model)

    check_artifact(tmp_path / "model")
    recommender = open_artifact(tmp_path / "model")
    recommender.warm()
    for user in data.user_ids:
        [answer] = recommender.recommend([Query(user, 10)])
        assert not answer.cold_start
        assert len(answer.items) < len(data.item_ids)
    assert recommender.recommend([Query("new", 10)])[0].cold_start


def test_progress_is_told_after_every_iteration(movielens: Interactions) -> None:
    told: list[float] = []

    train(movielens, Algorithm.ALS, {"factors": 4, "iterations": 5}, told.append)

    assert told == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


@pytest.mark.parametrize(
    ("algorithm", "given", "told"),
    [
        (Algorithm.ALS, {"factors": 0}, "a whole number from 1 to 1024"),
        (Algorithm.ALS, {"factors": 1.5}, "a whole number"),
        (Algorithm.ALS, {"alpha": float("nan")}, "alpha must be a number"),
        (Algorithm.ALS, {"neighbours": 5}, "factors, iterations, regularization, alpha, seed"),
        (Algorithm.BM25, {"b": 1.1}, "from 0 to 1"),
        (Algorithm.POPULARITY, {"factors": 3}, "it has none"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(algorithm: Algorithm, given: dict[str, float], told: str) -> None:
    with pytest.raises(Invalid, match=told) as refused:
        settings(algorithm, given)

    assert refused.value.reason == "TRAINING_PARAMETER"


def test_parameters_that_are_not_given_have_their_defaults() -> None:
    assert settings(Algorithm.ALS, {"factors": 8.0}) == {
        "factors": 8,
        "iterations": 15,
        "regularization": 0.05,
        "alpha": 1.0,
        "seed": 0,
    }


def test_a_missing_library_is_told_with_how_to_install_it(
    movielens: Interactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "implicit.als", None)

    with pytest.raises(Precondition, match=r"pip install 'turnout\[train\]'") as refused:
        train(movielens, Algorithm.ALS, {})

    assert refused.value.reason == "TRAINING_LIBRARY_MISSING"


@pytest.mark.parametrize("algorithm", [Algorithm.ALS, Algorithm.BM25])
def test_numbers_that_grow_out_of_hand_are_told(
    movielens: Interactions, monkeypatch: pytest.MonkeyPatch, algorithm: Algorithm
) -> None:
    # implicit itself gives up before its numbers do, so the bound comes down to them.
    monkeypatch.setattr(training, "MAX_MAGNITUDE", 1e-3)

    with pytest.raises(Invalid) as refused:
        train(movielens, algorithm, {})

    assert refused.value.reason == "TRAINING_DIVERGED"


def test_huge_and_tiny_values_make_sound_models(tmp_path: Path) -> None:
    path = tmp_path / "huge.csv"
    path.write_text("user,item,value\n" + "".join(f"u{n % 9},i{n % 7},{10.0 ** (n % 300 - 290)}\n" for n in range(299)))
    data = read_interactions(path)

    for algorithm in Algorithm:
        write_artifact(tmp_path / algorithm, train(data, algorithm, {}))
        assert check_artifact(tmp_path / algorithm).user_count == 9
