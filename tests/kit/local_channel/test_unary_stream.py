"""One request, a stream of responses: every scenario over TCP and locally, and both must observe the same."""

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


async def three(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
    await context.send_initial_metadata((("x-initial", "1"),))
    context.set_trailing_metadata((("x-trailing", "1"),))
    for number in range(3):
        yield text(f"{request.value}{number}")


@scenario
async def responses_arrive_in_order_with_metadata(lab: Lab) -> None:
    call = lab.unary_stream(three)(text("a"))
    call.add_done_callback(lambda done: lab.note("done", done is call))
    outcome = await lab.outcome(call)
    assert outcome.responses == ("a0", "a1", "a2")
    assert ("done", True) in lab.record.caller
    assert (outcome.initial_metadata, outcome.trailing_metadata) == ((("x-initial", "1"),), (("x-trailing", "1"),))


@scenario
async def responses_can_be_read_by_hand(lab: Lab) -> None:
    call = lab.unary_stream(three)(text("a"))
    await lab.attempt(call.wait_for_connection())
    await lab.attempt(call.initial_metadata())
    for _ in range(5):
        await lab.attempt(call.read())
    lab.note(call.done())
    await lab.attempt(call.code())
    assert lab.record.caller[2:5] == ["a0", "a1", "a2"]
    assert lab.record.caller[5] is lab.record.caller[6] is grpc.aio.EOF


@scenario
async def responses_can_be_written_by_hand(lab: Lab) -> None:
    async def writes(request: StringValue, context: Any) -> str:
        lab.saw(await context.read() is grpc.aio.EOF)
        await context.write(request)
        try:
            await context.send_initial_metadata(())
        except grpc.aio.UsageError as error:
            lab.saw(str(error))
        try:
            context.set_compression(grpc.Compression.Gzip)
        except RuntimeError as error:
            lab.saw(str(error))
        return "ignored"

    assert (await lab.outcome(lab.unary_stream(writes)(text("a")))).responses == ("a",)


@scenario
async def iterating_and_reading_do_not_mix(lab: Lab) -> None:
    call = lab.unary_stream(three)(text("a"))
    iterator = call.__aiter__()
    lab.note(iterator is call.__aiter__())
    await lab.attempt(anext(iterator))
    await lab.attempt(call.read())
    await lab.outcome(call)
    call = lab.unary_stream(three)(text("a"))
    await lab.attempt(call.read())
    with pytest.raises(grpc.aio.UsageError) as mixed:
        call.__aiter__()
    lab.note(str(mixed.value))


@scenario
async def an_iteration_goes_on_where_it_stopped(lab: Lab) -> None:
    call = lab.unary_stream(three)(text("a"))
    async for response in call:
        lab.note(response.value)
        break
    outcome = await lab.outcome(call)
    assert outcome.responses == ("a1", "a2")
    await lab.attempt(anext(call.__aiter__()))


@scenario
async def a_stream_may_be_empty(lab: Lab) -> None:
    async def nothing(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        for _ in ():
            yield request

    assert (await lab.outcome(lab.unary_stream(nothing)(text("a")))).responses == ()


@scenario
async def an_abort_follows_the_responses_before_it(lab: Lab) -> None:
    was_read = asyncio.Event()

    async def aborts(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        await was_read.wait()
        await context.abort(ABORTED, "enough", (("x-trailing", "1"),))

    for reads_by_hand in (True, False):
        was_read.clear()
        call = lab.unary_stream(aborts)(text("a"))
        read = call.read if reads_by_hand else call.__aiter__().__anext__
        await lab.attempt(read())
        was_read.set()
        for _ in range(3):
            await lab.attempt(read())
        await lab.attempt(call.trailing_metadata())
    failed = ("AioRpcError", ABORTED, "enough", (), (("x-trailing", "1"),))
    assert lab.record.caller[:4] == ["a", failed, failed, failed]
    # An iteration raises once and is over after that.
    assert lab.record.caller[5:9] == ["a", failed, ("StopAsyncIteration", ""), ("StopAsyncIteration", "")]


@scenario
async def a_suppressed_abort_ends_the_stream(lab: Lab) -> None:
    async def suppresses(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        try:
            await context.abort(ABORTED, "enough")
        except grpc.aio.AbortError:
            lab.saw("suppressed")
        yield request
        lab.saw("never")

    assert (await lab.outcome(lab.unary_stream(suppresses)(text("a")))).code is ABORTED
    assert lab.record.servicer == ["suppressed"]


@scenario
async def an_exception_is_unknown(lab: Lab) -> None:
    async def raises(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        if request.value:
            raise ValueError("boom")
        yield request

    assert (await lab.outcome(lab.unary_stream(raises)(text("a")))).details == "Unexpected <class 'ValueError'>: boom"


@scenario
async def a_code_ends_the_stream_with_it(lab: Lab) -> None:
    was_read = asyncio.Event()

    async def sets(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        await was_read.wait()
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_details("words")

    call = lab.unary_stream(sets)(text("a"))
    await lab.attempt(call.read())
    was_read.set()
    await lab.attempt(call.read())
    assert await call.code() is grpc.StatusCode.NOT_FOUND


@scenario
async def a_response_that_is_no_message_is_unknown(lab: Lab) -> None:
    async def nothing(request: StringValue, context: Any) -> AsyncIterator[None]:
        yield None

    assert (await lab.outcome(lab.unary_stream(nothing)(text("a")))).code is grpc.StatusCode.UNKNOWN


@scenario
async def the_status_waits_until_the_responses_are_read(lab: Lab) -> None:
    returned = asyncio.Event()

    async def returns(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        context.add_done_callback(lambda _: returned.set())
        yield request
        yield request

    call = lab.unary_stream(returns)(text("a"))
    await lab.soon(returned.wait())
    lab.note(call.done())
    await lab.attempt(call.read())
    lab.note(call.done())
    await lab.attempt(call.read())
    await lab.attempt(call.code())
    assert lab.record.caller == [False, "a", False, "a", OK]


@scenario
async def the_first_response_brings_the_initial_metadata(lab: Lab) -> None:
    may_return = asyncio.Event()

    async def waits(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        await may_return.wait()

    call = lab.unary_stream(waits)(text("a"))
    await lab.attempt(call.initial_metadata())
    lab.note(call.done())
    may_return.set()
    await lab.outcome(call)
    assert lab.record.caller[:2] == [(), False]


@scenario
async def a_message_that_is_too_large_ends_the_stream_where_it_stands(lab: Lab) -> None:
    large = text("x" * 40_000)

    async def answers(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        yield large

    call = lab.unary_stream(answers)(text("a"))
    await lab.attempt(call.read())
    await lab.attempt(call.read())
    assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await lab.outcome(lab.unary_stream(answers)(large))


@scenario
async def a_slow_reader_gets_everything(lab: Lab) -> None:
    async def many(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        for number in range(300):
            yield text(str(number))

    call = lab.unary_stream(many)(text("a"))
    got = []
    async for response in call:
        got.append(response.value)
        await asyncio.sleep(0)
    lab.note(got)
    assert got == [str(number) for number in range(300)]


@scenario
async def an_unknown_method_is_unimplemented(lab: Lab) -> None:
    outcome = await lab.outcome(lab.method(lab.channel.unary_stream, "/test.Echo/Nope")(text("a")))
    assert (outcome.code, outcome.details) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


@scenario
async def two_hundred_streams_at_once_keep_apart(lab: Lab) -> None:
    call = lab.unary_stream(three)

    async def reads(name: str) -> list[str]:
        return [response.value async for response in call(text(name))]

    got = await lab.soon(asyncio.gather(*(reads(f"{number}-") for number in range(200))))
    lab.note(got)
    assert got == [[f"{number}-{index}" for index in range(3)] for number in range(200)]


@pytest.mark.parametrize("mode", ["tcp", "local"])
@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_a_scenario_holds(played: Scenario, mode: Mode, play: Play) -> None:
    await play(played, mode)


@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_both_ways_observe_the_same(played: Scenario, observed: Play) -> None:
    assert await observed(played, "local") == await observed(played, "tcp")
