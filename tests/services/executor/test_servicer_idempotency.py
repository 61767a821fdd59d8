"""Calls under idempotency keys, over real gRPC, on a real Postgres."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2

from kit import migrations, status
from services.executor.store import MIGRATIONS, SCHEMA
from stack.postgres import Postgres
from tests.services.executor.upstreams import http


@pytest.fixture
def url(postgres: Postgres) -> str:
    name = f"executor_{os.getpid()}_{uuid.uuid4().hex[:8]}"
    postgres.create_database(name)
    asyncio.run(migrations.migrate(postgres.url(name), schema=SCHEMA, folder=MIGRATIONS))
    return postgres.url(name)


@pytest.fixture
async def remembering(url: str, environment: pytest.MonkeyPatch, start_room: Any) -> AsyncIterator[Any]:
    environment.setenv("TURNOUT_EXECUTOR_DATABASE_URL", url)
    async with start_room() as room:
        yield room


def retry_seconds(failure: grpc.aio.AioRpcError) -> float | None:
    details = dict(failure.trailing_metadata() or ())[status.DETAILS_KEY]
    for detail in status_pb2.Status.FromString(details).details:
        if detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay: duration_pb2.Duration = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            return float(delay.seconds + delay.nanos / 1e9)
    return None


def told(failure: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str]:
    return failure.code(), status.reason_of(failure)


async def test_a_repeat_gets_the_same_answer_and_nobody_is_asked_nor_anything_recorded(remembering: Any) -> None:
    first = await remembering.run(idempotency_key="order-7")
    again = await remembering.run(idempotency_key="order-7")

    assert again.repeated_answer
    assert not first.repeated_answer
    again.repeated_answer = False
    assert again == first
    assert len(remembering.upstream.received) == 1
    assert [event.request_id for event in remembering.served()] == [first.request_id]


async def test_calls_without_a_key_and_with_others_are_made_each_time(remembering: Any) -> None:
    for key in ("", "", "a", "b"):
        assert not (await remembering.run(idempotency_key=key)).repeated_answer

    assert len(remembering.upstream.received) == 4


async def test_another_request_under_the_key_is_refused(remembering: Any) -> None:
    await remembering.run(idempotency_key="order-7")

    for fields in ({"variables_json": '{"country":"Spain"}'}, {"user": "u"}, {"trace_id": "t"}):
        failure = await remembering.failure(idempotency_key="order-7", **fields)
        assert told(failure) == (grpc.StatusCode.INVALID_ARGUMENT, "IDEMPOTENCY_KEY_REUSED")
    assert len(remembering.upstream.received) == 1


async def test_a_repeat_while_the_first_runs_is_aborted_and_told_when_to_come(remembering: Any) -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def waits(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go_on.wait()
        writer.write(http(200, remembering.upstream.completion()))
        await writer.drain()

    remembering.upstream.then(waits)
    first = asyncio.ensure_future(remembering.run(idempotency_key="order-7"))
    await asyncio.wait_for(asked.wait(), 10)

    failure = await remembering.failure(idempotency_key="order-7")
    go_on.set()

    assert told(failure) == (grpc.StatusCode.ABORTED, "IDEMPOTENCY_KEY_IN_USE")
    assert retry_seconds(failure) == 0.5
    assert (await first).request_id == (await remembering.run(idempotency_key="order-7")).request_id
    assert len(remembering.upstream.received) == 1


async def test_a_call_that_fails_is_made_again(remembering: Any) -> None:
    remembering.upstream.then(http(400, {"error": {"message": "no"}}))
    assert told(await remembering.failure(idempotency_key="k"))[1] == "PROVIDER_REJECTED_REQUEST"
    assert told(await remembering.failure(idempotency_key="k", deployment="absent"))[1] == "DEPLOYMENT_NOT_FOUND"

    assert not (await remembering.run(idempotency_key="k")).repeated_answer


async def test_a_caller_who_leaves_can_come_again(remembering: Any) -> None:
    remembering.upstream.then(remembering.upstream.stall)
    call = asyncio.ensure_future(remembering.run(idempotency_key="k"))
    async with asyncio.timeout(10):
        while not remembering.upstream.received:
            await asyncio.sleep(0.01)
    call.cancel()

    async with asyncio.timeout(10):
        while True:
            try:
                answer = await remembering.run(idempotency_key="k")
                break
            except grpc.aio.AioRpcError as failure:
                assert told(failure)[1] == "IDEMPOTENCY_KEY_IN_USE"  # noqa: PT017  # until it is given back

    assert not answer.repeated_answer


async def test_of_many_at_once_one_is_made(remembering: Any) -> None:
    calls = [remembering.run(idempotency_key="k") for _ in range(20)]
    came = await asyncio.gather(*calls, return_exceptions=True)

    failures = [each for each in came if isinstance(each, grpc.aio.AioRpcError)]
    assert {told(failure)[1] for failure in failures} <= {"IDEMPOTENCY_KEY_IN_USE"}
    assert len({each.request_id for each in came if not isinstance(each, BaseException)}) == 1
    assert len(remembering.upstream.received) == 1


async def test_a_key_with_nul_is_refused(remembering: Any) -> None:
    failure = await remembering.failure(idempotency_key="a\0b")

    assert told(failure) == (grpc.StatusCode.INVALID_ARGUMENT, "TEXT_NOT_STORABLE")


async def test_without_a_database_a_key_is_refused_and_calls_without_are_served(room: Any) -> None:
    failure = await room.failure(idempotency_key="k")

    assert told(failure) == (grpc.StatusCode.FAILED_PRECONDITION, "IDEMPOTENCY_NOT_CONFIGURED")
    assert "TURNOUT_EXECUTOR_DATABASE_URL" in str(failure.details())
    assert (await room.run()).message.content == "Paris."
    assert len(room.upstream.received) == 1


async def test_with_the_database_down_calls_without_a_key_are_served(
    environment: pytest.MonkeyPatch, start_room: Any
) -> None:
    environment.setenv("TURNOUT_EXECUTOR_DATABASE_URL", "postgresql+asyncpg://turnout:hunter2@127.0.0.1:1/turnout")
    async with start_room() as room:
        failure = await room.failure(idempotency_key="k")
        assert (await room.run()).message.content == "Paris."
        assert len(room.upstream.received) == 1

    assert told(failure) == (grpc.StatusCode.UNAVAILABLE, "IDEMPOTENCY_UNAVAILABLE")
    assert "hunter2" not in str(failure)
