"""Leaving a stream of responses: every scenario over TCP and locally, and both must observe the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

if TYPE_CHECKING:
    from tests.kit.local_channel.conftest import Lab, Mode, Play, Scenario

# grpc delivers late events of a call to the loop that made it, and complains if that is closed: one loop for all.
pytestmark = pytest.mark.asyncio(loop_scope="session")

SCENARIOS: list[Scenario] = []


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


def text(value: str) -> StringValue:
    return StringValue(value=value)


@scenario
async def a_deadline_ends_a_stream_in_the_middle(lab: Lab) -> None:
    ended = asyncio.Event()

    async def waits(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lab.saw("cancelled", context.done(), context.cancelled())
            raise
        finally:
            ended.set()

    call = lab.unary_stream(waits)(text("a"), timeout=0.5)
    await lab.attempt(call.read())
    await lab.attempt(call.read())
    await lab.soon(ended.wait())
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert lab.record.servicer == [("cancelled", False, False)]


@scenario
async def a_stream_can_be_cancelled_before_its_first_response(lab: Lab) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def waits(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lab.saw("cancelled")
            raise
        finally:
            ended.set()
        yield request

    call = lab.unary_stream(waits)(text("a"))
    await lab.soon(started.wait())
    lab.note(call.cancel(), call.cancel(), call.cancelled())
    await lab.attempt(call.wait_for_connection())
    await lab.attempt(call.initial_metadata())
    await lab.attempt(call.read())
    await lab.outcome(call)
    await lab.soon(ended.wait())
    assert lab.record.servicer == ["cancelled"]


@scenario
async def a_stream_can_be_cancelled_after_its_first_response(lab: Lab) -> None:
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def waits(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lab.saw("cancelled")
            raise
        finally:
            ended.set()

    for reads_by_hand in (True, False):
        waiting.clear()
        ended.clear()
        call = lab.unary_stream(waits)(text("a"))
        read = call.read if reads_by_hand else call.__aiter__().__anext__
        await lab.attempt(read())
        await lab.soon(waiting.wait())
        lab.note(call.cancel())
        await lab.attempt(read())
        await lab.attempt(read())
        await lab.attempt(call.details())
        await lab.soon(ended.wait())
    assert lab.record.caller[2] == ("CancelledError", "")


@scenario
async def a_stream_that_never_stops_is_stopped_by_its_caller(lab: Lab) -> None:
    ended = asyncio.Event()

    async def forever(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        try:
            while True:
                yield text("x" * 1000)
        finally:
            ended.set()

    call = lab.unary_stream(forever)(text("a"))
    for _ in range(3):
        await call.read()
    call.cancel()
    await lab.soon(ended.wait())
    ended.clear()
    call = lab.unary_stream(forever)(text("a"), timeout=0.1)
    with pytest.raises(grpc.aio.AioRpcError):
        async for _ in call:
            pass
    await lab.soon(ended.wait())
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@scenario
async def cancelling_the_task_that_reads_cancels_the_call(lab: Lab) -> None:
    ended, started = asyncio.Event(), asyncio.Event()

    async def waits(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        yield request

    for reads_by_hand in (True, False):
        started.clear()
        ended.clear()
        call = lab.unary_stream(waits)(text("a"))
        read = call.read if reads_by_hand else call.__aiter__().__anext__

        async def reads(read: Any = read) -> Any:
            return await read()

        task = asyncio.create_task(reads())
        await lab.soon(started.wait())
        task.cancel()
        await lab.attempt(task)
        await lab.soon(ended.wait())
        await lab.attempt(call.details())
        lab.note(call.cancelled())
    assert lab.record.caller[1:3] == ["Locally cancelled by application!", True]


@pytest.mark.parametrize("mode", ["tcp", "local"])
@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_a_scenario_holds(played: Scenario, mode: Mode, play: Play) -> None:
    await play(played, mode)


@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_both_ways_observe_the_same(played: Scenario, observed: Play) -> None:
    assert await observed(played, "local") == await observed(played, "tcp")
