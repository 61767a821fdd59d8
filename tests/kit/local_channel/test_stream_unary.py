"""A stream of requests, one response: every scenario over TCP and locally, and both must observe the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
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


async def joins(requests: AsyncIterator[StringValue], context: Any) -> StringValue:
    return text(",".join([request.value async for request in requests]))


class Paused:
    """Requests that stop after the first one until they are let go; knows when the iterator was closed."""

    def __init__(self) -> None:
        self.begun, self.released, self.closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def requests(self) -> AsyncIterator[StringValue]:
        try:
            yield text("x")
            self.begun.set()
            await self.released.wait()
            yield text("y")
        finally:
            self.closed.set()


@scenario
async def requests_come_from_any_iterable(lab: Lab) -> None:
    call = lab.stream_unary(joins)
    await lab.outcome(call(letters("a", "b")))
    await lab.outcome(call([text("a"), text("b")]))
    await lab.outcome(call(text(value) for value in ("a", "b")))
    outcome = await lab.outcome(call(letters()))
    assert outcome.responses == ("",)


@scenario
async def requests_can_be_written_by_hand(lab: Lab) -> None:
    may_return = asyncio.Event()

    async def waits(requests: Any, context: Any) -> StringValue:
        response = await joins(requests, context)
        await may_return.wait()
        return response

    call = lab.stream_unary(waits)()
    await lab.attempt(call.wait_for_connection())
    await lab.attempt(call.write(text("a")))
    await lab.attempt(call.write(text("b")))
    await lab.attempt(call.done_writing())
    await lab.attempt(call.done_writing())
    await lab.attempt(call.write(text("too late")))
    may_return.set()
    outcome = await lab.outcome(call)
    await lab.attempt(call.write(text("too late")))
    await lab.attempt(call.done_writing())
    assert outcome.responses == ("a,b",)


@scenario
async def iterating_and_writing_do_not_mix(lab: Lab) -> None:
    call = lab.stream_unary(joins)(letters("a"))
    await lab.attempt(call.write(text("b")))
    await lab.attempt(call.done_writing())
    assert (await lab.outcome(call)).responses == ("a",)


@scenario
async def a_servicer_can_read_by_hand(lab: Lab) -> None:
    async def reads(requests: Any, context: Any) -> StringValue:
        for _ in range(4):
            request = await context.read()
            lab.saw(request if request is grpc.aio.EOF else request.value)
        try:
            await context.write(text("x"))
        except TypeError as error:
            lab.saw(str(error))
        return await joins(requests, context)

    await lab.outcome(lab.stream_unary(reads)(letters("a", "b")))
    assert lab.record.servicer[:4] == ["a", "b", grpc.aio.EOF, grpc.aio.EOF]


@scenario
async def a_servicer_that_iterates_again_goes_on(lab: Lab) -> None:
    async def twice(requests: Any, context: Any) -> StringValue:
        async for request in requests:
            lab.saw(request.value)
            break
        return await joins(requests, context)

    assert (await lab.outcome(lab.stream_unary(twice)(letters("a", "b", "c")))).responses == ("b,c",)


@scenario
async def a_servicer_that_returns_early_closes_the_iterator(lab: Lab) -> None:
    async def at_once(requests: Any, context: Any) -> StringValue:
        await paused.begun.wait()
        return text("early")

    async def after_one(requests: Any, context: Any) -> StringValue:
        async for request in requests:
            return text(request.value)
        return text("none")

    for behaviour in (at_once, after_one):
        paused = Paused()
        await lab.outcome(lab.stream_unary(behaviour)(paused.requests()))
        paused.released.set()
        await lab.soon(paused.closed.wait())


@scenario
async def writing_to_a_call_that_has_ended_is_an_error(lab: Lab) -> None:
    async def aborts(requests: Any, context: Any) -> None:
        await context.abort(ABORTED, "no")

    async def early(requests: Any, context: Any) -> StringValue:
        return text("early")

    for behaviour in (aborts, early):
        call = lab.stream_unary(behaviour)()
        await lab.outcome(call)
        await lab.attempt(call.write(text("a")))
        await lab.attempt(call.wait_for_connection())


@scenario
async def an_abort_ends_the_requests(lab: Lab) -> None:
    async def aborts(requests: Any, context: Any) -> None:
        async for _ in requests:
            await context.abort(ABORTED, "no", (("x-trailing", "1"),))

    paused = Paused()
    outcome = await lab.outcome(lab.stream_unary(aborts)(paused.requests()))
    paused.released.set()
    await lab.soon(paused.closed.wait())
    assert (outcome.code, outcome.trailing_metadata) == (ABORTED, (("x-trailing", "1"),))


@scenario
async def exceptions_and_codes_end_the_call(lab: Lab) -> None:
    async def raises(requests: Any, context: Any) -> StringValue:
        await joins(requests, context)
        raise ValueError("boom")

    async def sets(requests: Any, context: Any) -> StringValue:
        context.set_code(grpc.StatusCode.NOT_FOUND)
        return await joins(requests, context)

    assert (await lab.outcome(lab.stream_unary(raises)(letters("a")))).code is grpc.StatusCode.UNKNOWN
    assert (await lab.outcome(lab.stream_unary(sets)(letters("a")))).code is grpc.StatusCode.NOT_FOUND


@scenario
async def initial_metadata_arrives_before_the_response(lab: Lab) -> None:
    async def greets(requests: Any, context: Any) -> StringValue:
        await context.send_initial_metadata((("x-initial", "1"),))
        context.set_trailing_metadata((("x-trailing", "1"),))
        return await joins(requests, context)

    call = lab.stream_unary(greets)()
    await lab.attempt(call.initial_metadata())
    lab.note(call.done())
    await call.write(text("a"))
    await call.done_writing()
    await lab.outcome(call)
    assert lab.record.caller[:2] == [(("x-initial", "1"),), False]


@scenario
async def a_deadline_ends_a_call_whose_requests_do_not(lab: Lab) -> None:
    outcome = await lab.outcome(lab.stream_unary(joins)(timeout=0.5))
    assert outcome.code is grpc.StatusCode.DEADLINE_EXCEEDED
    paused = Paused()
    outcome = await lab.outcome(lab.stream_unary(joins)(paused.requests(), timeout=0.5))
    paused.released.set()
    await lab.soon(paused.closed.wait())
    assert outcome.code is grpc.StatusCode.DEADLINE_EXCEEDED


@scenario
async def a_cancelled_caller_cannot_write(lab: Lab) -> None:
    read, ended = asyncio.Event(), asyncio.Event()

    async def waits(requests: Any, context: Any) -> StringValue:
        lab.saw((await context.read()).value)
        read.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lab.saw("cancelled")
            raise
        finally:
            ended.set()
        return text("never")

    call = lab.stream_unary(waits)()
    await call.write(text("a"))
    await lab.soon(read.wait())
    lab.note(call.cancel())
    await lab.attempt(call.write(text("b")))
    await lab.attempt(call.done_writing())
    await lab.attempt(call.wait_for_connection())
    await lab.outcome(call)
    await lab.soon(ended.wait())
    assert lab.record.servicer == ["a", "cancelled"]


@scenario
async def an_iterator_that_raises_cancels_the_call(lab: Lab) -> None:
    async def breaks() -> AsyncIterator[StringValue]:
        yield text("a")
        raise ValueError("boom")

    def breaks_too() -> Iterator[StringValue]:
        yield text("a")
        raise ValueError("boom")

    for iterator in (breaks(), breaks_too(), 5):
        outcome = await lab.outcome(lab.stream_unary(joins)(iterator))
        assert outcome.details == "Locally cancelled by application!"


@scenario
async def a_request_that_is_too_large_ends_the_call(lab: Lab) -> None:
    outcome = await lab.outcome(lab.stream_unary(joins)([text("a"), text("x" * 40_000)]))
    assert outcome.details == "SERVER: Received message larger than max (40004 vs. 32768)"


@scenario
async def a_response_that_is_too_large_ends_the_call(lab: Lab) -> None:
    async def answers(requests: Any, context: Any) -> StringValue:
        await joins(requests, context)
        return text("x" * 40_000)

    outcome = await lab.outcome(lab.stream_unary(answers)([text("a")]))
    assert outcome.details == "CLIENT: Received message larger than max (40004 vs. 32768)"


@scenario
async def an_unknown_method_is_unimplemented(lab: Lab) -> None:
    outcome = await lab.outcome(lab.method(lab.channel.stream_unary, "/test.Echo/Nope")())
    assert (outcome.code, outcome.details) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


@scenario
async def two_hundred_calls_at_once_keep_apart(lab: Lab) -> None:
    call = lab.stream_unary(joins)
    responses = await lab.soon(asyncio.gather(*(call(letters(f"{number}", "x")) for number in range(200))))
    lab.note([response.value for response in responses])
    assert [response.value for response in responses] == [f"{number},x" for number in range(200)]


@pytest.mark.parametrize("mode", ["tcp", "local"])
@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_a_scenario_holds(played: Scenario, mode: Mode, play: Play) -> None:
    await play(played, mode)


@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_both_ways_observe_the_same(played: Scenario, observed: Play) -> None:
    assert await observed(played, "local") == await observed(played, "tcp")
