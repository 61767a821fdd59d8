"""Training: from interactions to a model. The only module here that needs `implicit`, and only when it trains."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from types import ModuleType
from typing import Final

import numpy as np
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]  # scipy has no annotations
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # nor has threadpoolctl

from kit.errors import Invalid, Precondition
from kit.json import Json
from recommenders.checks import MAX_MAGNITUDE
from recommenders.evaluation import Evaluation, Split, measure, split
from recommenders.interactions import Interactions
from recommenders.model import Algorithm, Float32s, Rows, TrainedModel
from recommenders.tables import Progress
from recommenders.texts import Texts


@dataclass(frozen=True, slots=True)
class Parameter:
    """What an algorithm can be told."""

    default: float
    least: float
    most: float
    is_whole: bool
    meaning: str


PARAMETERS: Final[Mapping[Algorithm, Mapping[str, Parameter]]] = {
    Algorithm.ALS: {
        "factors": Parameter(64, 1, 1024, True, "numbers a user or an item is described by"),
        "iterations": Parameter(15, 1, 1000, True, "rounds of alternating least squares"),
        "regularization": Parameter(0.05, 0, 1e6, False, "weight of the penalty on large factors"),
        "alpha": Parameter(1.0, 1e-6, 1e6, False, "confidence of an interaction for each unit of its value"),
        "seed": Parameter(0, 0, 2**32 - 1, True, "start of the random numbers"),
    },
    Algorithm.BM25: {
        "neighbours": Parameter(100, 1, 10_000, True, "similar items that are kept for each item"),
        "k1": Parameter(1.2, 0, 1e6, False, "how slowly more of the same stops to count"),
        "b": Parameter(0.75, 0, 1, False, "how much popular items are held back"),
    },
    Algorithm.POPULARITY: {},
}
"""What each algorithm takes, with its default."""


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """What came of a training."""

    model: TrainedModel
    """Fitted on all interactions; its metrics are the evaluation's."""
    evaluation: Evaluation | None
    """None if it was not asked for, or nobody has two interactions."""


def settings(algorithm: Algorithm, given: Mapping[str, float]) -> dict[str, float]:
    """An algorithm's parameters with their defaults.

    :raises Invalid: `TRAINING_PARAMETER`, with the parameter's name as metadata
    """
    known = PARAMETERS[algorithm]
    for name, value in given.items():
        if name not in known:
            names = ", ".join(known) or "none"
            raise _bad_parameter(name, f"{algorithm} has no parameter {name}; it has {names}")
        rule = known[name]
        if not rule.least <= value <= rule.most or (rule.is_whole and value != int(value)):
            kind = "a whole number" if rule.is_whole else "a number"
            raise _bad_parameter(
                name, f"{name} must be {kind} from {rule.least:g} to {rule.most:g}, not {str(value)[:40]}"
            )
    merged = {name: given.get(name, rule.default) for name, rule in known.items()}
    return {name: int(value) if known[name].is_whole else float(value) for name, value in merged.items()}


def train(
    interactions: Interactions,
    algorithm: Algorithm,
    parameters: Mapping[str, float],
    progress: Progress = lambda _: None,
    *,
    titles: Texts | None = None,
) -> TrainedModel:
    """Fit a model on all interactions.

    The same interactions and parameters make the same model, bit for bit, on the same machine.

    :param parameters: those of :data:`PARAMETERS` that differ from their default
    :param progress: told after each iteration; BM25 has but one
    :param titles: one an item
    :raises Invalid: `TRAINING_PARAMETER`, or `TRAINING_DIVERGED` if the numbers grew out of hand
    :raises Precondition: `TRAINING_LIBRARY_MISSING`
    """
    chosen = settings(algorithm, parameters)
    model = _fit(interactions, algorithm, chosen, progress)
    progress(1.0)
    return replace(model, item_titles=model.item_titles if titles is None else titles)


def train_and_evaluate(
    interactions: Interactions,
    algorithm: Algorithm,
    parameters: Mapping[str, float],
    *,
    titles: Texts | None = None,
    evaluating: Progress = lambda _: None,
    fitting: Progress = lambda _: None,
) -> Training:
    """Measure on what each user did last, beside popularity; then fit on everything.

    :raises AppError: as :func:`train`
    """
    parts = split(interactions, seed=0)
    evaluation = None if parts is None else _evaluate(parts, algorithm, parameters, evaluating)
    evaluating(1.0)
    model = train(interactions, algorithm, parameters, fitting, titles=titles)
    if evaluation is not None:
        model = replace(model, metrics=evaluation.numbers())
    return Training(model, evaluation)


def _evaluate(parts: Split, algorithm: Algorithm, parameters: Mapping[str, float], progress: Progress) -> Evaluation:
    fitted = train(parts.kept, algorithm, parameters, lambda done: progress(done * 0.8))
    baseline = train(parts.kept, Algorithm.POPULARITY, {})
    measured = measure(fitted, parts, lambda done: progress(0.8 + done * 0.1))
    popular = measure(baseline, parts, lambda done: progress(0.9 + done * 0.1))
    return Evaluation.of(measured, popular, is_by_time=parts.is_by_time)


def _fit(
    interactions: Interactions, algorithm: Algorithm, parameters: Mapping[str, float], progress: Progress
) -> TrainedModel:
    matrix = csr_matrix(
        (interactions.values, (interactions.users, interactions.items)),
        shape=(len(interactions.user_ids), len(interactions.item_ids)),
    )
    matrix.sort_indices()
    recorded: dict[str, Json] = {**parameters}
    model = TrainedModel(
        algorithm,
        user_ids=interactions.user_ids,
        item_ids=interactions.item_ids,
        item_titles=Texts.of([""] * len(interactions.item_ids)),
        seen=Rows(matrix.indptr.astype(np.int64), matrix.indices, matrix.data),
        popularity=np.bincount(interactions.items, minlength=len(interactions.item_ids)),
        parameters=recorded,
    )
    match algorithm:
        case Algorithm.ALS:
            return _with_factors(model, matrix, parameters, progress)
        case Algorithm.BM25:
            return _with_similarity(model, matrix, parameters)
        case Algorithm.POPULARITY:
            return model


def _with_factors(
    model: TrainedModel, matrix: csr_matrix, parameters: Mapping[str, float], progress: Progress
) -> TrainedModel:
    """Source: Y. Hu, Y. Koren, C. Volinsky (2008), Collaborative Filtering for Implicit Feedback Datasets, ICDM."""
    iterations = int(parameters["iterations"])
    library = _implicit("als")
    # It works on all cores itself, and BLAS beside it would fight it for them.
    with threadpool_limits(1, user_api="blas"):
        als = library.AlternatingLeastSquares(
            factors=int(parameters["factors"]),
            iterations=iterations,
            regularization=parameters["regularization"],
            alpha=parameters["alpha"],
            random_state=int(parameters["seed"]),
        )
        try:
            als.fit(matrix, show_progress=False, callback=lambda done, *_: progress((done + 1) / iterations))
        except _implicit("recommender_base").ModelFitError:
            raise _diverged() from None
    users, items = als.user_factors, als.item_factors
    if not (_is_sound(users) and _is_sound(items)):
        raise _diverged()
    return replace(model, user_factors=users, item_factors=items)


def _with_similarity(model: TrainedModel, matrix: csr_matrix, parameters: Mapping[str, float]) -> TrainedModel:
    """Items are alike if the same users have them, weighted as BM25 weights words in documents.

    Source: S. Robertson, H. Zaragoza (2009), The Probabilistic Relevance Framework: BM25 and Beyond.
    """
    bm25 = _implicit("nearest_neighbours").BM25Recommender(
        K=int(parameters["neighbours"]), K1=parameters["k1"], B=parameters["b"]
    )
    with warnings.catch_warnings():
        # It warns of the form of a matrix that it has made itself.
        warnings.simplefilter("ignore")
        bm25.fit(matrix, show_progress=False)
    similarity = bm25.similarity.astype(np.float32)
    similarity.sum_duplicates()
    similarity.eliminate_zeros()
    if not _is_sound(similarity.data):
        raise _diverged()
    return replace(model, similarity=Rows(similarity.indptr.astype(np.int64), similarity.indices, similarity.data))


def _implicit(module: str) -> ModuleType:
    """Imported late: serving never needs it, and it is not everywhere."""
    try:
        return import_module(f"implicit.{module}")
    except ImportError as error:
        raise Precondition(
            f"training this needs the library implicit ({error}); install it with: pip install 'turnout[train]'",
            reason="TRAINING_LIBRARY_MISSING",
        ) from None


def _is_sound(numbers: Float32s) -> bool:
    return bool((np.abs(numbers) <= MAX_MAGNITUDE).all())


def _diverged() -> Invalid:
    return Invalid(
        "training did not arrive at finite numbers; try smaller values, a smaller --alpha or more --regularization",
        reason="TRAINING_DIVERGED",
    )


def _bad_parameter(name: str, message: str) -> Invalid:
    return Invalid(message, reason="TRAINING_PARAMETER", parameter=name)
