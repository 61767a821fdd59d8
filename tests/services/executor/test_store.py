from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from kit import clock, database, migrations
from kit.database import Sessions
from kit.errors import AppError, Conflict, Exhausted, Invalid, Precondition, Unavailable
from services.executor.idempotency import Answer, Fresh, Idempotency
from services.executor.store import MIGRATIONS, SCHEMA, SWEEP_BATCH, PostgresRecords
from stack.postgres import Postgres
from tests.services.executor.records import begun, live_claim, refusal

ROOM = 1 << 30

_numbers = itertools.count()


@pytest.fixture
def url(postgres: Postgres) -> str:
    """Of an empty, migrated database."""
    name = f"executor_{os.getpid()}_{next(_numbers)}"
    postgres.create_database(name)
    asyncio.run(migrations.migrate(postgres.url(name), schema=SCHEMA, folder=MIGRATIONS))
    return postgres.url(name)


@pytest.fixture
async def sessions(url: str) -> AsyncIterator[Sessions]:
    async with database.sessions(url, schema=SCHEMA) as opened:
        yield opened


@pytest.fixture
def records(sessions: Sessions) -> PostgresRecords:
    return PostgresRecords(sessions, owner="ins_1", max_bytes=ROOM)


@pytest.fixture
async def calls(records: PostgresRecords) -> AsyncIterator[Idempotency]:
    calls = Idempotency(records, clock.SystemClock())
    yield calls
    await calls.close()


@pytest.fixture
async def others(url: str) -> AsyncIterator[Idempotency]:
    """Those of another process."""
    async with database.sessions(url, schema=SCHEMA) as sessions:
        calls = Idempotency(PostgresRecords(sessions, owner="ins_2", max_bytes=ROOM), clock.SystemClock())
        yield calls
        await calls.close()


async def let_pass(sessions: Sessions, seconds: float) -> None:
    """As if every record were older."""
    async with database.transaction(sessions) as session:
        await session.execute(
            text(
                "UPDATE idempotency_records SET started_at = started_at - make_interval(secs => :s), "
                "busy_until = busy_until - make_interval(secs => :s), "
                "expires_at = expires_at - make_interval(secs => :s)"
            ),
            {"s": seconds},
        )


async def count(sessions: Sessions) -> int:
    async with database.transaction(sessions) as session:
        return int((await session.execute(text("SELECT count(*) FROM idempotency_records"))).scalar_one())


async def test_a_repeat_gets_the_answer_in_any_process(calls: Idempotency, others: Idempotency) -> None:
    first = await begun(calls)
    await calls.finish(first, b"\x00answer\xff")

    for process in (calls, others):
        assert await process.begin(live_claim()) == Answer(b"\x00answer\xff")


async def test_while_the_first_runs_a_repeat_is_told_to_come_later(calls: Idempotency, others: Idempotency) -> None:
    await begun(calls)

    for process in (calls, others):
        error = await refusal(process)
        assert (type(error), error.reason) == (Conflict, "IDEMPOTENCY_KEY_IN_USE")
        assert error.retry_after_seconds == 0.5


async def test_the_wait_is_as_long_as_the_call_has_run(calls: Idempotency, sessions: Sessions) -> None:
    await begun(calls)
    await let_pass(sessions, 4)

    assert (await refusal(calls)).retry_after_seconds == pytest.approx(4, abs=0.9)


async def test_another_request_under_the_key_is_refused_whatever_became_of_the_first(
    calls: Idempotency, sessions: Sessions
) -> None:
    first = await begun(calls)
    running = await refusal(calls, b"other")
    await let_pass(sessions, 91)
    lost = await refusal(calls, b"other")
    await calls.finish(first, b"answer")
    answered = await refusal(calls, b"other")

    for error in (running, lost, answered):
        assert (type(error), error.reason) == (Invalid, "IDEMPOTENCY_KEY_REUSED")


async def test_keys_belong_to_an_api_key_in_a_project(calls: Idempotency) -> None:
    for fields in ({}, {"api_key": "key_2"}, {"project": "prj_other"}, {"project": ""}, {"key": "Order-7"}):
        await begun(calls, **fields)


async def test_a_key_that_was_given_back_is_free_at_once_for_any_request(
    calls: Idempotency, others: Idempotency
) -> None:
    await calls.abandon(await begun(calls))

    await begun(others, b"other")


async def test_only_the_keys_that_are_named_are_given_back(calls: Idempotency, records: PostgresRecords) -> None:
    held = [await begun(calls, key=str(number)) for number in range(4)]
    await calls.finish(held[2], b"answer")

    await records.abandon([held[3], held[0], held[2]])

    assert isinstance(await calls.begin(live_claim(key="0")), Fresh)
    assert (await refusal(calls, key="1")).reason == "IDEMPOTENCY_KEY_IN_USE"
    assert await calls.begin(live_claim(key="2")) == Answer(b"answer")
    assert isinstance(await calls.begin(live_claim(key="3")), Fresh)


async def test_the_key_of_a_process_that_died_is_taken_over_when_its_call_must_have_ended(
    calls: Idempotency, others: Idempotency, sessions: Sessions
) -> None:
    lost = await begun(calls, seconds=60)
    await let_pass(sessions, 89)
    error = await refusal(others)
    assert error.reason == "IDEMPOTENCY_KEY_IN_USE"
    assert error.retry_after_seconds == pytest.approx(0.5, abs=0.6)

    await let_pass(sessions, 1.1)
    taken = await begun(others, seconds=60)

    # The dead one was only slow, and comes back: nothing that is not its own is touched.
    await calls.abandon(lost)
    await calls.finish(lost, b"late")
    assert (await refusal(calls)).reason == "IDEMPOTENCY_KEY_IN_USE"
    await others.finish(taken, b"answer")
    await calls.finish(lost, b"later still")
    await calls.abandon(lost)
    assert await calls.begin(live_claim()) == Answer(b"answer")


async def test_an_answer_that_came_before_anybody_took_over_counts_however_late(
    calls: Idempotency, others: Idempotency, sessions: Sessions
) -> None:
    slow = await begun(calls)
    await let_pass(sessions, 1000)
    await calls.finish(slow, b"answer")

    assert await others.begin(live_claim()) == Answer(b"answer")


async def test_an_answer_is_kept_for_a_day_from_when_it_came(calls: Idempotency, sessions: Sessions) -> None:
    first = await begun(calls)
    await let_pass(sessions, 30)
    await calls.finish(first, b"answer")
    await let_pass(sessions, 86_395)
    assert await calls.begin(live_claim()) == Answer(b"answer")

    await let_pass(sessions, 10)

    await begun(calls, b"other")


async def test_an_answer_of_4_mib_is_kept_whole(calls: Idempotency) -> None:
    answer = os.urandom(4 << 20)
    await calls.finish(await begun(calls), answer)

    assert await calls.begin(live_claim()) == Answer(answer)


@pytest.mark.parametrize("state", ["new", "expired", "lost"])
async def test_of_any_number_that_come_at_once_one_takes_the_key(
    state: str, calls: Idempotency, others: Idempotency, sessions: Sessions
) -> None:
    for number in range(8):
        key = str(number)
        if state != "new":
            fresh = await begun(calls, key=key)
            if state == "expired":
                await calls.finish(fresh, b"old")
            await let_pass(sessions, 86_401 if state == "expired" else 91)

        processes = (calls, others) * 10
        came = await asyncio.gather(*(p.begin(live_claim(key=key)) for p in processes), return_exceptions=True)

        fresh_ones = [each for each in came if isinstance(each, Fresh)]
        refused = [each.reason for each in came if isinstance(each, AppError)]
        assert len(fresh_ones) == 1, came
        assert refused == ["IDEMPOTENCY_KEY_IN_USE"] * 19


async def test_calls_that_fail_and_come_again_at_once_are_each_made_alone(
    calls: Idempotency, others: Idempotency
) -> None:
    running, made = 0, 0

    async def provider(*, fails: bool) -> None:
        nonlocal running
        await asyncio.sleep(0)
        if fails:
            running -= 1
            raise Unavailable("no answer", reason="PROVIDER_FAILED")

    async def come(process: Idempotency) -> bytes:
        nonlocal running, made
        while True:
            try:
                async with process.once(live_claim()) as once:
                    if once.answer is not None:
                        return once.answer
                    running, made = running + 1, made + 1
                    assert running == 1
                    await provider(fails=made < 5)
                    running -= 1
                    await once.finish(b"the fifth")
                    return b"made"
            except (Conflict, Unavailable) as error:
                assert error.reason in ("IDEMPOTENCY_KEY_IN_USE", "PROVIDER_FAILED")  # noqa: PT017  # it tries again

    answers = await asyncio.gather(*(come(process) for process in (calls, others) * 5))

    assert made == 5
    assert sorted(answers) == [b"made"] + [b"the fifth"] * 9


class TestSweep:
    async def test_deletes_what_has_expired_in_batches_and_nothing_else(
        self, calls: Idempotency, records: PostgresRecords, sessions: Sessions
    ) -> None:
        async with database.transaction(sessions) as session:
            await session.execute(
                text(
                    "INSERT INTO idempotency_records (project, api_key, key, body_hash, claim, owner, answer, "
                    "started_at, busy_until, expires_at) "
                    "SELECT 'p', 'k', n::text, sha256('x'), 'c', 'o', 'answer', now(), now(), "
                    "now() - make_interval(secs => n) FROM generate_series(1, :n) n"
                ),
                {"n": 2 * SWEEP_BATCH + 7},
            )
        running, answered = await begun(calls), await begun(calls, key="answered")
        await calls.finish(answered, b"answer")

        assert await records.sweep() == 2 * SWEEP_BATCH + 7
        assert await records.sweep() == 0

        assert await count(sessions) == 2
        await calls.finish(running, b"running")
        assert await calls.begin(live_claim()) == Answer(b"running")
        assert await calls.begin(live_claim(key="answered")) == Answer(b"answer")

    async def test_of_two_at_once_each_row_is_deleted_by_one(
        self, records: PostgresRecords, others: Idempotency, calls: Idempotency, sessions: Sessions
    ) -> None:
        for number in range(20):
            await begun(calls, key=str(number))
        await let_pass(sessions, 86_401)

        assert sum(await asyncio.gather(*(records.sweep() for _ in range(4)))) == 20


class TestRoom:
    async def test_without_room_new_keys_are_refused_and_answers_are_still_given(
        self, calls: Idempotency, sessions: Sessions
    ) -> None:
        await calls.finish(await begun(calls), bytes(10_000))
        await begun(calls, key="runs")
        full = PostgresRecords(sessions, owner="ins_1", max_bytes=10_000)
        crowded = Idempotency(full, clock.SystemClock())
        await crowded.sweep()

        error = await refusal(crowded, key="new")

        assert (type(error), error.reason) == (Exhausted, "IDEMPOTENCY_RECORDS_FULL")
        assert await crowded.begin(live_claim()) == Answer(bytes(10_000))
        assert (await refusal(crowded, key="runs")).reason == "IDEMPOTENCY_KEY_IN_USE"

        await let_pass(sessions, 86_401)
        assert (await refusal(crowded)).reason == "IDEMPOTENCY_RECORDS_FULL"
        await crowded.sweep()
        await begun(crowded, key="new")

    async def test_what_a_process_adds_itself_counts_at_once(self, sessions: Sessions) -> None:
        calls = Idempotency(PostgresRecords(sessions, owner="ins_1", max_bytes=10_000), clock.SystemClock())
        await calls.finish(await begun(calls), bytes(10_000))

        assert (await refusal(calls, key="new")).reason == "IDEMPOTENCY_RECORDS_FULL"


async def test_tables_that_vanish_are_a_sentence_for_the_operator(calls: Idempotency, sessions: Sessions) -> None:
    async with database.transaction(sessions) as session:
        await session.execute(text("DROP TABLE idempotency_records"))

    error = await refusal(calls)

    assert (type(error), error.reason) == (Precondition, "IDEMPOTENCY_NOT_MIGRATED")
    assert "migrate" in error.message
