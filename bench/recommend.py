"""Recommending from factors, exactly: `make bench WHAT=recommend`.

10,000, 100,000 and 1,000,000 items × 64 random numbers, as an artifact that is mapped as in production; the ten best
items a user has not seen, of which each user has fifty. First the library by itself: one user, and batches of 64 as the
service makes them of concurrent calls, on one core. Then the service by gRPC, with one caller and with 64
(`bench.recommend_service`). Answers are compared with those of sorting all scores: one that differs fails the run, and
so does a call that fails, or an event that is missing or doubled.

Two things are measured beside it in the same run: `implicit` on the same factors, and how long it takes to do nothing
but read the items' factors from memory (`sum`) and to copy them (`copy`), the best of several.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import uvloop
from implicit.cpu.als import AlternatingLeastSquares  # type: ignore[import-untyped]  # it has no annotations
from numpy.typing import NDArray
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]  # nor has scipy
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # nor has threadpoolctl

from bench.cores import Cores, running_on
from bench.figures import Row as CallRow
from bench.figures import interpreter
from bench.recommend_service import ON, Service
from bench.surroundings import Surroundings, surroundings
from recommenders.artifact import check_artifact, open_artifact, write_artifact
from recommenders.model import Algorithm, Rows, TrainedModel
from recommenders.scoring import Answer, Query, Recommender
from recommenders.texts import Texts

SIZES: Final = (10_000, 100_000, 1_000_000)
FACTORS: Final = 64
USERS: Final = 1024
SEEN: Final = 50
LIMIT: Final = 10
BATCH: Final = 64

Measured = Callable[[Sequence[int]], object]


@dataclass(frozen=True, slots=True)
class Row:
    """What was measured of one way to answer."""

    name: str
    items: int
    at_once: int
    """Users of one call."""
    calls: int
    best_ms: float
    """Of a call, as the other two."""
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """Of this process for one user."""
    of_memory: float
    """How many times as long as the best reading of the items' factors (`sum`) the best call took."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the memory does with as many numbers, on one core."""

    items: int
    sum_ms: float
    copy_ms: float
    read_gb_per_second: float


def made(items: int) -> TrainedModel:
    """A model of random numbers."""
    random = np.random.default_rng(0)
    seen = np.sort(random.permuted(np.tile(np.arange(SEEN * 4), (USERS, 1)), axis=1)[:, :SEEN] * (items // (SEEN * 4)))
    indices = seen.astype(np.int32).reshape(-1)
    return TrainedModel(
        Algorithm.ALS,
        user_ids=Texts.of(f"user-{number:09}" for number in range(USERS)),
        item_ids=Texts.of(f"item-{number:09}" for number in range(items)),
        item_titles=Texts.of(f"Title of item {number}" for number in range(items)),
        seen=Rows(np.arange(USERS + 1, dtype=np.int64) * SEEN, indices),
        popularity=np.bincount(indices, minlength=items),
        user_factors=random.standard_normal((USERS, FACTORS), dtype=np.float32),
        item_factors=random.standard_normal((items, FACTORS), dtype=np.float32),
    )


def timed(name: str, call: Measured, items: int, at_once: int, seconds: float, memory: Memory) -> Row:
    """Call again and again, with other users each time."""
    random = np.random.default_rng(1)
    users = random.integers(0, USERS, (256, at_once)).tolist()
    call(users[0])
    latencies: list[float] = []
    cpu, end = time.process_time(), time.perf_counter() + seconds
    while (began := time.perf_counter()) < end or len(latencies) < 5:
        call(users[len(latencies) % len(users)])
        latencies.append((time.perf_counter() - began) * 1000)
    cpu = (time.process_time() - cpu) * 1000
    latencies.sort()
    p50, p99 = latencies[len(latencies) // 2], latencies[int(len(latencies) * 0.99)]
    calls = len(latencies)
    best = latencies[0]
    return Row(name, items, at_once, calls, best, p50, p99, cpu / calls / at_once, best / memory.sum_ms)


def memory_of(factors: NDArray[np.float32], repeats: int = 15) -> Memory:
    """How fast these numbers are read, and copied."""
    target = np.empty_like(factors)
    sums, copies = [], []
    for _ in range(repeats):
        began = time.perf_counter()
        factors.sum()
        between = time.perf_counter()
        np.copyto(target, factors)
        sums.append(between - began)
        copies.append(time.perf_counter() - between)
    return Memory(len(factors), min(sums) * 1000, min(copies) * 1000, factors.nbytes / min(sums) / 1e9)


def wrong(model: TrainedModel, recommender: Recommender) -> int:
    """How many users' answers, alone and in batches, are not the best items that sorting all scores finds."""
    users = list(range(0, USERS, 8))
    queries = [Query(model.user_ids[row], LIMIT) for row in users]
    batched = [
        answer for start in range(0, len(users), BATCH) for answer in recommender.recommend(queries[start:][:BATCH])
    ]
    alone = [recommender.recommend([query])[0] for query in queries]
    return sum(
        not (_is_exact(model, row, first) and _is_exact(model, row, second))
        for row, first, second in zip(users, batched, alone, strict=True)
    )


def _is_exact(model: TrainedModel, row: int, answer: Answer) -> bool:
    """Whether these are the best, in order; scores that rounding cannot tell apart may change places."""
    if model.item_factors is None or model.user_factors is None:
        raise AssertionError("the model has no factors")
    scores = model.item_factors @ model.user_factors[row]
    seen = model.seen.indices[model.seen.indptr[row] : model.seen.indptr[row + 1]]
    scores[seen] = -np.inf
    best = np.sort(np.partition(scores, len(scores) - LIMIT)[-LIMIT:])[::-1]
    rows = [int(item.item_id.removeprefix("item-")) for item in answer.items]
    told = np.array([item.score for item in answer.items])
    return (
        len(set(rows)) == LIMIT
        and not set(rows) & set(seen.tolist())
        and np.allclose(told, best, rtol=1e-5, atol=1e-5)
        and np.allclose(scores[rows], told, rtol=1e-5, atol=1e-5)
    )


def measure_library(items: int, seconds: float, folder: Path) -> tuple[Memory, list[Row], int]:
    """The memory, all rows for so many items, and how many answers were wrong.

    :param folder: where the artifact goes
    """
    model = made(items)
    write_artifact(folder, model)
    check_artifact(folder)
    recommender = open_artifact(folder)
    recommender.warm()
    factors = np.asarray(model.item_factors)
    memory = memory_of(factors)
    queries = [Query(user, LIMIT) for user in model.user_ids]
    matrix = csr_matrix((np.ones(len(model.seen.indices), np.float32), model.seen.indices, model.seen.indptr))
    matrix.resize((USERS, items))
    peer = _implicit(model)

    def turnout(users: Sequence[int]) -> object:
        return recommender.recommend([queries[user] for user in users])

    def implicit(users: Sequence[int]) -> object:
        return peer.recommend(np.array(users), matrix[users], N=LIMIT)

    rows = [
        timed(name, call, items, at_once, seconds, memory)
        for name, call in (("Turnout", turnout), ("implicit", implicit))
        for at_once in (1, BATCH)
    ]
    errors = wrong(model, recommender)
    recommender.close()
    return memory, rows, errors


def _implicit(model: TrainedModel) -> Any:  # it has no annotations
    peer = AlternatingLeastSquares(factors=FACTORS)
    peer.user_factors, peer.item_factors = model.user_factors, model.item_factors
    return peer


async def measure_service(
    around: Surroundings, cores: Cores, artifacts: Mapping[int, Path], seconds: float
) -> tuple[list[CallRow], int, int, int]:
    """All rows by gRPC; how many answers were wrong, how many calls there were, and how many analytics counts."""
    service = Service(around, cores)
    await service.furnish(artifacts)
    rows: list[CallRow] = []
    errors = 0
    for items in artifacts:
        more, answers = await service.measure(items, USERS, LIMIT, seconds)
        rows += more
        model = made(items)
        errors += sum(not _is_exact(model, row, answer) for row, answer in answers.items())
    return rows, errors, *await service.counts()


def report(memories: Sequence[Memory], rows: Sequence[Row], errors: int) -> None:
    """Tables for people."""
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {interpreter()}")
    print(f"on: {FACTORS} factors, {LIMIT} best of what is unseen, {SEEN} seen by each user; one core; exact\n")
    print(f"{'memory':12}" + "".join(f"{head:>12}" for head in ("items", "sum ms", "copy ms", "read GB/s")))
    for memory in memories:
        print(
            f"{'':12}{memory.items:>12,}{memory.sum_ms:>12.3f}{memory.copy_ms:>12.3f}{memory.read_gb_per_second:>12.1f}"
        )
    heads = ("items", "at once", "calls", "best ms", "p50 ms", "p99 ms", "CPU ms/user", "× sum")
    print("\n" + f"{'':12}" + "".join(f"{head:>12}" for head in heads))
    for row in rows:
        print(
            f"{row.name:12}{row.items:>12,}{row.at_once:>12}{row.calls:>12,}{row.best_ms:>12.3f}{row.p50_ms:>12.3f}"
            f"{row.p99_ms:>12.3f}{row.cpu_ms:>12.3f}{row.of_memory:>12.2f}"
        )
    print(f"\n{errors} answers were not exact" + (" — THIS MUST NOT BE" if errors else ""))


def main() -> int:
    """Measure and print; 1 if an answer is not the exact one."""
    parser = argparse.ArgumentParser(prog="python -m bench.recommend", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=5, help="how long each row is timed (default 5)")
    parser.add_argument("--items", type=int, nargs="+", default=SIZES, help="how many items (default: all three sizes)")
    parser.add_argument("--json", type=Path, help="write what was measured here too")
    options = parser.parse_args()
    memories: list[Memory] = []
    rows: list[Row] = []
    errors = 0
    cores = Cores.divided()
    with running_on(cores.others), surroundings() as around:
        artifacts = {items: around.folder / f"model-{items}" for items in options.items}
        with threadpool_limits(1, user_api="blas"):
            for items, folder in artifacts.items():
                memory, more, wrongs = measure_library(items, options.seconds, folder)
                memories.append(memory)
                rows += more
                errors += wrongs
            called, wrongs, calls, events = uvloop.run(measure_service(around, cores, artifacts, options.seconds))
            errors += wrongs
    report(memories, rows, errors)
    report_calls(called, calls, events)
    if options.json:
        document = {
            "memory": [asdict(each) for each in memories],
            "rows": [asdict(each) for each in rows],
            "calls": [asdict(each) for each in called],
        }
        options.json.write_text(json.dumps(document))
    return 1 if errors or calls != events else 0


def report_calls(rows: Sequence[CallRow], calls: int, events: int) -> None:
    """A table for people."""
    print(f"\nby gRPC; on: {ON}")
    heads = ("callers", "calls/s", "p50 ms", "p99 ms", "CPU ms/call", "RSS MB")
    print(f"{'':24}" + "".join(f"{head:>12}" for head in heads))
    for row in rows:
        print(
            f"{row.name:24}{row.concurrency:>12}{row.rate:>12,.0f}{row.p50_ms:>12.2f}{row.p99_ms:>12.2f}"
            f"{row.cpu_ms:>12.3f}{row.rss_mb:>12.0f}"
        )
    print(f"\n{calls} calls, none failed; {events} events counted by analytics", end="")
    print("" if calls == events else " — THEY DIFFER")


if __name__ == "__main__":
    sys.exit(main())
