"""One request, one response: every scenario over TCP and locally, and both must observe the same."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

if TYPE_CHECKING:
    from tests.kit.local_channel.conftest import Lab, Mode, Play, Scenario

# grpc delivers late events of a call to the loop that made it, and complains if that is closed: one loop for all.
pytestmark = pytest.mark.asyncio(loop_scope="session")

SCENARIOS: list[Scenario] = []
ABORTED, NOT_FOUND, OK = grpc.StatusCode.ABORTED, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OK


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


def text(value: str) -> StringValue:
    return StringValue(value=value)


async def echo(request: StringValue, context: Any) -> StringValue:
    return request


@scenario
async def a_response_arrives(lab: Lab) -> None:
    outcome = await lab.outcome(lab.unary_unary(echo)(text("a")))
    assert (outcome.responses, outcome.code, outcome.details) == (("a",), OK, "")
    assert outcome.is_done
    assert not outcome.is_cancelled


@scenario
async def a_deadline_ends_both_sides(lab: Lab) -> None:
    ended = asyncio.Event()

    async def waits(request: StringValue, context: Any) -> StringValue:
        # The network rounds a time-out up.
        lab.saw(0 < context.time_remaining() <= 0.6)
        context.add_done_callback(lambda done: lab.saw(done.done(), done.code()))
        context.add_done_callback(lambda _: ended.set())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lab.saw("cancelled", context.cancelled(), context.done())
            raise
        return request

    call = lab.unary_unary(waits)(text("a"), timeout=0.5)
    lab.note(0 < call.time_remaining() <= 0.5)
    outcome = await lab.outcome(call)
    await lab.soon(ended.wait())
    assert (outcome.code, outcome.details) == (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    assert call.time_remaining() == 0
    assert ("cancelled", False, False) in lab.record.servicer


@scenario
async def a_deadline_that_has_passed_ends_the_call(lab: Lab) -> None:
    async def waits(request: StringValue, context: Any) -> StringValue:
        await asyncio.Event().wait()
        return request

    for timeout in (0, -1):
        outcome = await lab.outcome(lab.unary_unary(waits)(text("a"), timeout=timeout))
        assert outcome.code is grpc.StatusCode.DEADLINE_EXCEEDED


@scenario
async def without_a_deadline_neither_side_has_one(lab: Lab) -> None:
    async def looks(request: StringValue, context: Any) -> StringValue:
        lab.saw(context.time_remaining())
        return request

    call = lab.unary_unary(looks)(text("a"))
    lab.note(call.time_remaining())
    await lab.outcome(call)
    assert lab.record.servicer == [None]


@scenario
async def a_servicer_learns_that_the_caller_cancelled(lab: Lab) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def waits(request: StringValue, context: Any) -> StringValue:
        context.add_done_callback(lambda done: lab.saw("done", done.done()))
        context.add_done_callback(lambda _: ended.set())
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lab.saw("cancelled", context.cancelled(), context.done(), context.code())
            raise
        return request

    call = lab.unary_unary(waits)(text("a"), timeout=60)
    call.add_done_callback(lambda done_call: lab.note(done_call is call, done_call.done(), done_call.cancelled()))
    await lab.soon(started.wait())
    lab.note(call.cancel(), call.cancel(), call.done(), call.cancelled())
    outcome = await lab.outcome(call)
    await lab.soon(ended.wait())
    assert outcome.raised == ("CancelledError", "")
    assert outcome.details == "Locally cancelled by application!"
    assert lab.record.servicer == [("cancelled", False, False, None), ("done", False)]


@scenario
async def a_call_can_be_cancelled_at_once(lab: Lab) -> None:
    call = lab.unary_unary(echo)(text("a"))
    lab.note(call.cancel())
    outcome = await lab.outcome(call)
    assert outcome.is_cancelled


@scenario
async def cancelling_the_task_that_awaits_cancels_the_call(lab: Lab) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def waits(request: StringValue, context: Any) -> StringValue:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return request

    call = lab.unary_unary(waits)(text("a"))

    async def awaits() -> Any:
        return await call

    task = asyncio.create_task(awaits())
    await lab.soon(started.wait())
    task.cancel()
    await lab.attempt(task)
    await lab.soon(ended.wait())
    outcome = await lab.outcome(call)
    assert outcome.is_cancelled


@scenario
async def a_servicer_may_survive_its_cancellation(lab: Lab) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def survives(request: StringValue, context: Any) -> StringValue:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            lab.saw("survives")
        ended.set()
        return request

    call = lab.unary_unary(survives)(text("a"))
    await lab.soon(started.wait())
    call.cancel()
    await lab.soon(ended.wait())
    await lab.outcome(call)


@scenario
async def a_call_that_nobody_awaits_goes_to_its_end(lab: Lab) -> None:
    ended = asyncio.Event()

    async def runs(request: StringValue, context: Any) -> StringValue:
        context.add_done_callback(lambda _: ended.set())
        await asyncio.sleep(0)
        lab.saw("ran")
        return request

    lab.unary_unary(runs)(text("a"))
    await lab.soon(ended.wait())
    assert lab.record.servicer == ["ran"]


@scenario
async def messages_up_to_the_limit_pass_and_larger_ones_do_not(lab: Lab) -> None:
    limit = 32 * 1024
    fits, exceeds = "x" * (limit - 4), "x" * (limit - 3)

    async def answers(request: StringValue, context: Any) -> StringValue:
        await context.send_initial_metadata((("x-initial", "1"),))
        context.set_trailing_metadata((("x-trailing", "1"),))
        lab.saw(len(request.value))
        return text(exceeds if request.value == "more" else request.value)

    call = lab.unary_unary(answers)
    assert text(fits).ByteSize() == limit
    assert len((await call(text(fits))).value) == limit - 4
    too_large = await lab.outcome(call(text(exceeds)))
    assert (too_large.code, too_large.details) == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "SERVER: Received message larger than max (32769 vs. 32768)",
    )
    outcome = await lab.outcome(call(text("more")))
    assert outcome.details == "CLIENT: Received message larger than max (32769 vs. 32768)"
    assert (outcome.initial_metadata, outcome.trailing_metadata) == ((("x-initial", "1"),), ())


@scenario
async def two_awaits_give_one_response(lab: Lab) -> None:
    call = lab.unary_unary(echo)(text("a"))
    first, second = await call, await call
    lab.note(first is second, first.value)
    assert first is second


@scenario
async def done_callbacks_run_once_with_their_call(lab: Lab) -> None:
    ended = asyncio.Event()

    async def registers(request: StringValue, context: Any) -> StringValue:
        context.add_done_callback(lambda done: lab.saw("first", done is context, done.done()))
        context.add_done_callback(lambda _: ended.set())
        return request

    call = lab.unary_unary(registers)(text("a"))
    call.add_done_callback(lambda done: lab.note("early", done is call, done.done()))
    await call
    call.add_done_callback(lambda done: lab.note("late", done is call))
    await lab.soon(ended.wait())
    assert lab.record.caller == [("early", True, True), ("late", True)]


@scenario
async def an_unknown_method_is_unimplemented(lab: Lab) -> None:
    outcome = await lab.outcome(lab.method(lab.channel.unary_unary, "/test.Echo/Nope")(text("a")))
    assert (outcome.code, outcome.details) == (grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


@scenario
async def a_fresh_context_says_so(lab: Lab) -> None:
    async def looks(request: StringValue, context: Any) -> StringValue:
        lab.saw(context.code(), context.details(), context.trailing_metadata(), context.done(), context.cancelled())
        lab.saw(context.peer_identities(), context.peer_identity_key())
        lab.saw(await context.read() is grpc.aio.EOF)
        try:
            await context.write(request)
        except TypeError as error:
            lab.saw(str(error))
        context.set_compression(grpc.Compression.Gzip)
        context.disable_next_message_compression()
        return request

    await lab.outcome(lab.unary_unary(looks)(text("a"), compression=grpc.Compression.Gzip, wait_for_ready=True))


@scenario
async def call_credentials_need_a_secure_channel(lab: Lab) -> None:
    credentials = grpc.access_token_call_credentials("token")
    with pytest.raises(grpc.aio.UsageError) as refused:
        lab.unary_unary(echo)(text("a"), credentials=credentials)
    lab.note(str(refused.value))


@scenario
async def waiting_for_the_connection_waits_for_the_end(lab: Lab) -> None:
    async def aborts(request: StringValue, context: Any) -> None:
        await context.abort(ABORTED, "no")

    await lab.attempt(lab.unary_unary(echo)(text("a")).wait_for_connection())
    await lab.attempt(lab.unary_unary(aborts)(text("a")).wait_for_connection())


@scenario
async def two_hundred_calls_at_once_keep_apart(lab: Lab) -> None:
    arrived = 0
    all_here = asyncio.Event()

    async def gathers(request: StringValue, context: Any) -> StringValue:
        nonlocal arrived
        arrived += 1
        if arrived == 200:
            all_here.set()
        await all_here.wait()
        return request

    call = lab.unary_unary(gathers)
    responses = await lab.soon(asyncio.gather(*(call(text(str(number))) for number in range(200))))
    lab.note([response.value for response in responses])
    assert [response.value for response in responses] == [str(number) for number in range(200)]


@pytest.mark.parametrize("mode", ["tcp", "local"])
@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_a_scenario_holds(played: Scenario, mode: Mode, play: Play) -> None:
    await play(played, mode)


@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_both_ways_observe_the_same(played: Scenario, observed: Play) -> None:
    assert await observed(played, "local") == await observed(played, "tcp")
