"""Streams both ways: every scenario over TCP and locally, and both must observe the same."""

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
ABORTED, OK = grpc.StatusCode.ABORTED, grpc.StatusCode.OK


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


def text(value: str) -> StringValue:
    return StringValue(value=value)


async def letters(*values: str) -> AsyncIterator[StringValue]:
    for value in values:
        yield text(value)


async def echo(requests: AsyncIterator[StringValue], context: Any) -> AsyncIterator[StringValue]:
    async for request in requests:
        yield request


async def echo_by_hand(requests: AsyncIterator[StringValue], context: Any) -> None:
    while (request := await context.read()) is not grpc.aio.EOF:
        await context.write(request)


@scenario
async def every_request_is_answered(lab: Lab) -> None:
    for behaviour in (echo, echo_by_hand):
        outcome = await lab.outcome(lab.stream_stream(behaviour)(letters("a", "b", "c")))
        assert outcome.responses == ("a", "b", "c")


@scenario
async def a_conversation_goes_back_and_forth(lab: Lab) -> None:
    for behaviour in (echo, echo_by_hand):
        call = lab.stream_stream(behaviour)()
        await lab.attempt(call.wait_for_connection())
        for letter in ("a", "b"):
            await lab.attempt(call.write(text(letter)))
            await lab.attempt(call.read())
        await lab.attempt(call.done_writing())
        await lab.attempt(call.read())
        await lab.attempt(call.read())
        await lab.attempt(call.code())
        await lab.attempt(call.write(text("too late")))
        await lab.attempt(call.done_writing())


@scenario
async def responses_go_on_after_the_last_request(lab: Lab) -> None:
    async def sums(requests: Any, context: Any) -> AsyncIterator[StringValue]:
        got = [request.value async for request in requests]
        for _ in range(2):
            yield text("".join(got))

    assert (await lab.outcome(lab.stream_stream(sums)(letters("a", "b")))).responses == ("ab", "ab")


@scenario
async def a_servicer_may_return_before_the_requests_end(lab: Lab) -> None:
    begun, released, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def early(requests: Any, context: Any) -> AsyncIterator[StringValue]:
        await begun.wait()
        yield text("early")

    async def paused() -> AsyncIterator[StringValue]:
        try:
            yield text("x")
            begun.set()
            await released.wait()
            yield text("y")
        finally:
            closed.set()

    outcome = await lab.outcome(lab.stream_stream(early)(paused()))
    released.set()
    await lab.soon(closed.wait())
    assert (outcome.responses, outcome.code) == (("early",), OK)
    call = lab.stream_stream(early)()
    await lab.attempt(call.read())
    await lab.attempt(call.read())
    await lab.attempt(call.write(text("a")))


@scenario
async def initial_metadata_arrives_first(lab: Lab) -> None:
    async def greets(requests: Any, context: Any) -> AsyncIterator[StringValue]:
        lab.saw_metadata(context)
        await context.send_initial_metadata((("x-initial", "1"),))
        async for request in requests:
            yield request
        context.set_trailing_metadata((("x-trailing-bin", b"1"),))

    call = lab.stream_stream(greets)(metadata=(("x-request", "1"),))
    await lab.attempt(call.initial_metadata())
    await call.write(text("a"))
    await call.done_writing()
    outcome = await lab.outcome(call)
    assert outcome.trailing_metadata == (("x-trailing-bin", b"1"),)


@scenario
async def an_abort_ends_both_directions(lab: Lab) -> None:
    async def aborts(requests: Any, context: Any) -> AsyncIterator[StringValue]:
        async for request in requests:
            yield request
            await context.read()
            await context.abort(ABORTED, "enough", (("x-trailing", "1"),))

    call = lab.stream_stream(aborts)()
    await call.write(text("a"))
    await lab.attempt(call.read())
    await call.write(text("b"))
    await lab.attempt(call.read())
    await lab.attempt(call.read())
    await lab.attempt(call.write(text("c")))
    assert lab.record.caller[1] == ("AioRpcError", ABORTED, "enough", (), (("x-trailing", "1"),))


@scenario
async def exceptions_and_codes_end_the_call(lab: Lab) -> None:
    async def raises(requests: Any, context: Any) -> None:
        await context.read()
        raise ValueError("boom")

    async def sets(requests: Any, context: Any) -> None:
        await context.read()
        context.set_code(grpc.StatusCode.NOT_FOUND)

    assert (await lab.outcome(lab.stream_stream(raises)(letters("a")))).code is grpc.StatusCode.UNKNOWN
    assert (await lab.outcome(lab.stream_stream(sets)(letters("a")))).code is grpc.StatusCode.NOT_FOUND


@scenario
async def a_deadline_ends_a_conversation(lab: Lab) -> None:
    call = lab.stream_stream(echo)(timeout=0.5)
    await call.write(text("a"))
    await lab.attempt(call.read())
    await lab.attempt(call.read())
    assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


@scenario
async def a_servicer_whose_caller_left_can_neither_read_nor_write(lab: Lab) -> None:
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def goes_on(requests: Any, context: Any) -> None:
        await context.write(await context.read())
        waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lab.saw("cancelled", context.done(), context.cancelled())
        try:
            lab.saw(await context.read())
            await context.write(text("b"))
        except grpc.aio.InternalError:
            lab.saw("cannot write")
        ended.set()

    call = lab.stream_stream(goes_on)()
    await call.write(text("a"))
    await lab.attempt(call.read())
    await lab.soon(waiting.wait())
    lab.note(call.cancel())
    await lab.attempt(call.read())
    await lab.attempt(call.write(text("b")))
    await lab.soon(ended.wait())
    assert lab.record.servicer == [("cancelled", False, False), grpc.aio.EOF, "cannot write"]


@scenario
async def a_call_can_be_cancelled_before_anything_is_said(lab: Lab) -> None:
    call = lab.stream_stream(echo)()
    lab.note(call.cancel())
    await lab.attempt(call.read())
    await lab.attempt(call.write(text("a")))
    await lab.outcome(call)


@scenario
async def an_iterator_that_raises_cancels_the_call(lab: Lab) -> None:
    async def breaks() -> AsyncIterator[StringValue]:
        yield text("a")
        await got.wait()
        raise ValueError("boom")

    got = asyncio.Event()
    call = lab.stream_stream(echo)(breaks())
    await lab.attempt(call.read())
    got.set()
    await lab.attempt(call.read())
    assert lab.record.caller == ["a", ("CancelledError", "")]


@scenario
async def a_request_that_is_too_large_ends_the_call(lab: Lab) -> None:
    call = lab.stream_stream(echo)()
    await call.write(text("a"))
    await lab.attempt(call.read())
    await call.write(text("x" * 40_000))
    await lab.attempt(call.read())
    assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@scenario
async def requests_and_responses_may_run_far_apart(lab: Lab) -> None:
    async def numbers() -> AsyncIterator[StringValue]:
        for number in range(300):
            yield text(str(number))

    outcome = await lab.outcome(lab.stream_stream(echo)(numbers()))
    assert outcome.responses == tuple(str(number) for number in range(300))


@scenario
async def an_unknown_method_is_unimplemented(lab: Lab) -> None:
    outcome = await lab.outcome(lab.method(lab.channel.stream_stream, "/test.Echo/Nope")())
    assert (outcome.code, outcome.details) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


@scenario
async def two_hundred_conversations_at_once_keep_apart(lab: Lab) -> None:
    call = lab.stream_stream(echo)

    async def talks(name: str) -> list[str]:
        return [response.value async for response in call(letters(name, "x"))]

    got = await lab.soon(asyncio.gather(*(talks(str(number)) for number in range(200))))
    lab.note(got)
    assert got == [[str(number), "x"] for number in range(200)]


@pytest.mark.parametrize("mode", ["tcp", "local"])
@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_a_scenario_holds(played: Scenario, mode: Mode, play: Play) -> None:
    await play(played, mode)


@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_both_ways_observe_the_same(played: Scenario, observed: Play) -> None:
    assert await observed(played, "local") == await observed(played, "tcp")
