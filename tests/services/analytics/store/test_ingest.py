from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kit import database, ids
from kit.database import Sessions
from kit.errors import Unavailable
from services.analytics.application.ingestion import Ingestion
from services.analytics.domain.histogram import quantiles
from services.analytics.domain.request import Outcome, PayloadPiece, Rejection, Request, Series
from services.analytics.domain.rollup import Totals
from services.analytics.domain.window import Span, cover_of
from services.analytics.store import PostgresStore
from stack.postgres import Postgres

HOUR_US = 3_600_000_000
BASE_US = 1_700_000_000_000_000


def request(
    project: str = "prj_1",
    *,
    start_us: int = BASE_US,
    event_id: str = "",
    variant: str = "red",
    outcome: Outcome = Outcome.OK,
    latency_us: int = 1000,
    is_simulated: bool = False,
) -> Request:
    return Request(
        event_id=event_id or ids.encode(ids.uuid7()),
        request_id=ids.new_uid("req"),
        series=Series(project, "dep_1", "helper", variant, variant),
        outcome=outcome,
        start_us=start_us,
        latency_us=None if outcome is Outcome.LOST else latency_us,
        input_tokens=3,
        output_tokens=2,
        cost_usd_micros=7,
        has_unknown_cost=False,
        packed=b"event",
        is_simulated=is_simulated,
    )


async def measured(store: PostgresStore, project: str, window: Span) -> Totals:
    async with store.reading() as reading:
        found = await reading.totals(await reading.series(project), cover_of(window))
    total = Totals()
    for totals in found.values():
        total.add(totals)
    return total


async def rows(sessions: Sessions, sql: str) -> Sequence[Any]:
    async with database.transaction(sessions) as session:
        connection = await session.connection()
        return (await connection.exec_driver_sql(sql)).all()


EVERYTHING = Span(BASE_US - 10 * HOUR_US, BASE_US + 10 * HOUR_US)


async def test_a_request_counts_once_however_often_it_comes(store: PostgresStore) -> None:
    ingestion = Ingestion(store)
    one, two = request(), request(outcome=Outcome.ERROR)

    for batch in ([one], [one, two], [two, two, one], [one, two]):
        await ingestion.take(batch, [])

    total = await measured(store, "prj_1", EVERYTHING)
    assert total.outcomes == [1, 1, 0, 0]
    assert (total.input_tokens, total.output_tokens, total.cost_usd_micros) == (6, 4, 14)


async def test_what_was_only_tried_is_kept_and_counts_neither_in_rollups_nor_in_rows(
    store: PostgresStore, sessions: Sessions
) -> None:
    await Ingestion(store).take([request(), request(is_simulated=True)], [])

    assert (await measured(store, "prj_1", EVERYTHING)).requests == 1
    # A window that begins inside an hour reads its rows.
    assert (await measured(store, "prj_1", Span(BASE_US - 5, BASE_US + 5))).requests == 1
    assert len(await rows(sessions, "SELECT 1 FROM requests WHERE project = 'prj_1'")) == 2


async def test_a_batch_that_fails_leaves_nothing_behind(store: PostgresStore, sessions: Sessions) -> None:
    requests = [request() for _ in range(10)]
    await store.prepare(requests, [])

    class Interrupted(Exception):
        pass

    async def fail_in_the_middle() -> None:
        async with store.ingest() as tx:
            await tx.add_requests(requests)
            raise Interrupted

    with pytest.raises(Interrupted):
        await fail_in_the_middle()
    assert await rows(sessions, "SELECT count(*) FROM requests") == [(0,)]

    await Ingestion(store).take(requests, [])
    assert (await measured(store, "prj_1", EVERYTHING)).requests == 10


async def test_payload_pieces_are_kept_once(store: PostgresStore, sessions: Sessions) -> None:
    pieces = [
        PayloadPiece(request_id, "prj_1", index, 2, truncated=False, data=b"x")
        for request_id in (ids.new_uid("req"), ids.new_uid("req"))
        for index in (0, 1)
    ]

    for batch in (pieces[:2], pieces, list(reversed(pieces)), [pieces[0], pieces[0]]):
        await Ingestion(store).take([], batch)

    assert await rows(sessions, "SELECT count(*), count(DISTINCT (request_id, index)) FROM payloads") == [(4, 4)]


async def test_two_processes_that_take_the_same_events_at_once_count_them_once(
    sessions: Sessions, store: PostgresStore, today: int
) -> None:
    others = [
        PostgresStore(sessions, request_retention_days=90, payload_retention_days=30, today=lambda: today)
        for _ in range(3)
    ]
    events = [request(variant=f"v{n % 7}", start_us=BASE_US + n * HOUR_US // 100) for n in range(400)]

    async def take(each: PostgresStore, step: int) -> None:
        for start in range(0, len(events), 50):
            batch = events[start : start + 50]
            await Ingestion(each).take(batch[::step], [])
            await Ingestion(each).take(batch, [])

    await asyncio.gather(*(take(each, step) for each, step in zip((store, *others), (1, -1, 2, -3), strict=True)))

    assert (await measured(store, "prj_1", EVERYTHING)).requests == 400


async def test_events_with_absurd_times_make_no_partitions_and_count_once(
    store: PostgresStore, sessions: Sessions, today: int
) -> None:
    absurd = [ids.encode((day * 86_400_000) << 80 | 7 << 76 | 2 << 62 | day) for day in range(0, 60_000, 300)]
    events = [
        request(event_id=event_id) for event_id in absurd if abs(ids.time_ms_of(event_id) // 86_400_000 - today) > 100
    ]

    await Ingestion(store).take(events, [])
    await Ingestion(store).take(events, [])

    assert (await measured(store, "prj_1", EVERYTHING)).requests == len(events)
    partitions = await rows(sessions, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'requests'::regclass")
    assert partitions == [(1,)]


async def test_a_partition_takes_over_the_rows_that_came_before_it(sessions: Sessions, today: int) -> None:
    day = today + 10
    early = request(event_id=ids.encode((day * 86_400_000) << 80 | 7 << 76 | 2 << 62 | 1))

    def store_on(now: int) -> PostgresStore:
        return PostgresStore(sessions, request_retention_days=90, payload_retention_days=30, today=lambda: now)

    await Ingestion(store_on(today)).take([early], [])
    assert await rows(sessions, "SELECT count(*) FROM requests_default") == [(1,)]
    later = store_on(day)
    await Ingestion(later).take([early, request()], [])

    assert await rows(sessions, "SELECT count(*) FROM requests_default") == [(0,)]
    assert (await measured(later, "prj_1", EVERYTHING)).requests == 2


async def test_two_processes_that_make_a_partition_at_once_agree(sessions: Sessions, today: int) -> None:
    stores = [
        PostgresStore(sessions, request_retention_days=90, payload_retention_days=30, today=lambda: today)
        for _ in range(4)
    ]
    batches = [[request() for _ in range(5)] for _ in stores]

    await asyncio.gather(*(Ingestion(each).take(batch, []) for each, batch in zip(stores, batches, strict=True)))

    assert (await measured(stores[0], "prj_1", EVERYTHING)).requests == 20
    assert await rows(sessions, "SELECT count(*) FROM requests_default") == [(0,)]


async def test_expired_days_are_dropped_and_their_totals_stay(sessions: Sessions, today: int) -> None:
    def store_on(now: int) -> PostgresStore:
        return PostgresStore(sessions, request_retention_days=20, payload_retention_days=20, today=lambda: now)

    piece = PayloadPiece(ids.new_uid("req"), "prj_1", 0, 1, truncated=False, data=b"x")
    await Ingestion(store_on(today)).take([request()], [piece])
    await store_on(today + 19).keep_house()
    assert await rows(sessions, "SELECT count(*) FROM requests") == [(1,)]

    later = store_on(today + 20)
    await later.keep_house()
    await later.keep_house()

    assert await rows(sessions, "SELECT (SELECT count(*) FROM requests), (SELECT count(*) FROM payloads)") == [(0, 0)]
    whole_hours = Span(BASE_US // HOUR_US * HOUR_US, (BASE_US // HOUR_US + 1) * HOUR_US)
    assert (await measured(later, "prj_1", whole_hours)).requests == 1


async def test_an_event_that_cannot_be_taken_is_kept_once_whatever_is_in_it(
    store: PostgresStore, sessions: Sessions
) -> None:
    ingestion = Ingestion(store)
    for _ in range(2):
        await ingestion.reject(Rejection("id\0\ud800", "sub\0ject" * 500, 7, "WHY\0", b"\0\xff"))

    [(event_id, reason, payload)] = await rows(sessions, "SELECT event_id, reason, payload FROM rejected_events")
    assert (event_id, reason, payload) == ("id\ufffd?", "WHY\ufffd", b"\0\xff")


async def test_a_database_that_restarts_is_unavailable_and_then_takes_the_same_batch(
    tmp_path_factory: pytest.TempPathFactory, migrated: Callable[[str], Any], today: int
) -> None:
    with Postgres(tmp_path_factory.mktemp("restarting")) as postgres:
        postgres.create_database("a")
        await migrated(postgres.url("a"))
        async with database.sessions(postgres.url("a"), schema="analytics") as sessions:
            store = PostgresStore(sessions, request_retention_days=90, payload_retention_days=30, today=lambda: today)
            first, second = [request() for _ in range(5)], [request() for _ in range(5)]
            await Ingestion(store).take(first, [])
            await asyncio.to_thread(postgres.kill)
            with pytest.raises(Unavailable):
                await Ingestion(store).take(second, [])
            await asyncio.to_thread(postgres.start)
            await Ingestion(store).take(first, [])
            await Ingestion(store).take(second, [])

            assert (await measured(store, "prj_1", EVERYTHING)).requests == 10
        postgres.remove_data()


@dataclass(frozen=True)
class Case:
    events: list[tuple[int, int, Outcome, int]]
    deliveries: list[list[int]]
    windows: list[tuple[int, int]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    hours = st.integers(-30 * HOUR_US, 30 * HOUR_US)
    event = st.tuples(hours, st.integers(0, 2), st.sampled_from(Outcome), st.integers(0, 10**8))
    events = draw(st.lists(event, min_size=1, max_size=40))
    index = st.integers(0, len(events) - 1)
    deliveries = draw(st.lists(st.lists(index, min_size=1, max_size=20), max_size=8))
    # Whatever the interleaving, everything comes at least once in the end.
    deliveries.append(draw(st.permutations(range(len(events)))))
    windows = draw(st.lists(st.tuples(hours, hours).filter(lambda pair: pair[0] < pair[1]), min_size=3, max_size=3))
    return Case(events, deliveries, [*windows, (-31 * HOUR_US, 31 * HOUR_US)])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_any_interleaving_and_repetition_of_batches_gives_what_simple_counting_gives(
    case: Case, database_url: str
) -> None:
    """The model keeps every event in a list and counts; the store has rollups, edges, partitions and two takers."""
    project = ids.new_uid("prj")
    events = [
        request(project, start_us=BASE_US + offset, variant=f"v{variant}", outcome=outcome, latency_us=latency)
        for offset, variant, outcome, latency in case.events
    ]

    async def play() -> list[Totals]:
        async with database.sessions(database_url, schema="analytics") as sessions:
            stores = [
                PostgresStore(
                    sessions,
                    request_retention_days=90,
                    payload_retention_days=30,
                    today=lambda: int(time.time()) // 86400,
                )
                for _ in range(2)
            ]

            async def take(which: int) -> None:
                for batch in case.deliveries[which::2]:
                    await Ingestion(stores[which]).take([events[index] for index in batch], [])

            await asyncio.gather(take(0), take(1))
            spans = [Span(BASE_US + start, BASE_US + end) for start, end in case.windows]
            return [await measured(stores[0], project, span) for span in spans]

    for (start, end), total in zip(case.windows, asyncio.run(play()), strict=True):
        inside = [event for event in events if BASE_US + start <= event.start_us < BASE_US + end]
        counts = Counter(event.outcome for event in inside)
        assert total.outcomes == [counts[outcome] for outcome in Outcome]
        assert total.input_tokens == 3 * len(inside)
        assert total.cost_usd_micros == 7 * len(inside)
        assert total.newest_us == max((event.start_us for event in inside), default=None)
        latencies = sorted(event.latency_us for event in inside if event.latency_us is not None)
        found = quantiles(total.latencies, (0.5, 0.95, 0.99))
        assert (found is None) == (not latencies)
        for share, estimate in zip((0.5, 0.95, 0.99), found or (), strict=False):
            truth = latencies[max(1, math.ceil(share * len(latencies))) - 1]
            assert abs(estimate - truth) <= 0.01 * truth + 0.5
