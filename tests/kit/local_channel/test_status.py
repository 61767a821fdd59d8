"""How a servicer ends its call: every scenario over TCP and locally, and both must observe the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import Int64Value, StringValue

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


@scenario
async def an_abort_carries_code_details_and_both_metadata(lab: Lab) -> None:
    async def aborts(request: StringValue, context: Any) -> StringValue:
        await context.send_initial_metadata((("x-initial", "1"),))
        await context.abort(ABORTED, "wörds\n%", (("x-trailing", "1"), ("x-trailing-bin", b"\x00\xff")))
        raise AssertionError("unreachable")

    outcome = await lab.outcome(lab.unary_unary(aborts)(text("a")))
    assert (outcome.code, outcome.details) == (ABORTED, "wörds\n%")
    assert outcome.initial_metadata == (("x-initial", "1"),)
    assert outcome.trailing_metadata == (("x-trailing", "1"), ("x-trailing-bin", b"\x00\xff"))


@scenario
async def an_abort_without_words_keeps_those_set_before(lab: Lab) -> None:
    async def aborts(request: StringValue, context: Any) -> None:
        context.set_details("before")
        context.set_trailing_metadata((("x-before", "1"),))
        await context.abort(ABORTED)

    outcome = await lab.outcome(lab.unary_unary(aborts)(text("a")))
    assert (outcome.details, outcome.trailing_metadata) == ("before", (("x-before", "1"),))


@scenario
async def a_suppressed_abort_still_ends_the_call(lab: Lab) -> None:
    async def suppresses(request: StringValue, context: Any) -> StringValue:
        for _ in range(2):
            try:
                await context.abort(ABORTED, "enough")
            except grpc.aio.BaseError as error:
                lab.saw(type(error).__name__, str(error), context.done(), context.code(), context.details())
        try:
            await context.send_initial_metadata(())
        except grpc.aio.AbortError as error:
            lab.saw(str(error))
        return request

    outcome = await lab.outcome(lab.unary_unary(suppresses)(text("a")))
    assert (outcome.code, outcome.responses) == (ABORTED, ())


@scenario
async def an_exception_after_an_abort_changes_nothing(lab: Lab) -> None:
    async def replaces(request: StringValue, context: Any) -> None:
        try:
            await context.abort(ABORTED, "enough")
        except grpc.aio.AbortError as error:
            raise ValueError("other") from error

    outcome = await lab.outcome(lab.unary_unary(replaces)(text("a")))
    assert (outcome.code, outcome.details) == (ABORTED, "enough")


@scenario
async def an_abort_error_made_by_hand_is_a_bug(lab: Lab) -> None:
    async def raises(request: StringValue, context: Any) -> StringValue:
        raise grpc.aio.AbortError("by hand")

    outcome = await lab.outcome(lab.unary_unary(raises)(text("a")))
    assert outcome.details == "Unexpected <class 'AssertionError'>: Abort error has been replaced!"


@scenario
async def abort_refuses_arguments_of_wrong_types(lab: Lab) -> None:
    attempts: tuple[tuple[Any, ...], ...] = (
        ("d", [("x", "1")]),
        (5, ()),
        ("d", grpc.aio.Metadata(("x", "1"))),
        ("d", (("x", 1),)),
    )

    async def aborts(request: StringValue, context: Any) -> None:
        await context.abort(ABORTED, *attempts[int(request.value)])

    for index in range(len(attempts)):
        outcome = await lab.outcome(lab.unary_unary(aborts)(text(str(index))))
        assert outcome.code is grpc.StatusCode.UNKNOWN


@scenario
async def an_exception_is_unknown_and_keeps_the_trailers(lab: Lab) -> None:
    async def raises(request: StringValue, context: Any) -> StringValue:
        context.set_details("dropped")
        context.set_trailing_metadata((("x-trailing", "1"),))
        raise ValueError("boom")

    outcome = await lab.outcome(lab.unary_unary(raises)(text("a")))
    assert (outcome.code, outcome.details) == (grpc.StatusCode.UNKNOWN, "Unexpected <class 'ValueError'>: boom")
    assert outcome.trailing_metadata == (("x-trailing", "1"),)


@scenario
async def an_exception_keeps_the_code_that_was_set(lab: Lab) -> None:
    async def raises(request: StringValue, context: Any) -> StringValue:
        context.set_code(NOT_FOUND)
        raise ValueError("boom")

    assert (await lab.outcome(lab.unary_unary(raises)(text("a")))).code is NOT_FOUND


@scenario
async def a_failed_call_inside_the_servicer_is_its_exception(lab: Lab) -> None:
    async def raises(request: StringValue, context: Any) -> StringValue:
        raise grpc.aio.AioRpcError(NOT_FOUND, details="inner")

    assert (await lab.outcome(lab.unary_unary(raises)(text("a")))).code is grpc.StatusCode.UNKNOWN


@scenario
async def a_code_that_is_not_ok_drops_the_response(lab: Lab) -> None:
    codes: tuple[Any, ...] = (NOT_FOUND, 5, 99, "junk", grpc.StatusCode.CANCELLED)

    async def sets(request: StringValue, context: Any) -> StringValue:
        context.set_code(codes[int(request.value)])
        context.set_details("words")
        context.set_trailing_metadata((("x-trailing", "1"),))
        lab.saw(context.code(), context.details(), context.trailing_metadata(), context.done(), context.cancelled())
        return request

    seen = [await lab.outcome(lab.unary_unary(sets)(text(str(index)))) for index in range(len(codes))]
    unknown = grpc.StatusCode.UNKNOWN
    assert [outcome.code for outcome in seen] == [NOT_FOUND, NOT_FOUND, unknown, unknown, grpc.StatusCode.CANCELLED]
    assert all(outcome.responses == () and outcome.details == "words" for outcome in seen)
    assert [outcome.is_cancelled for outcome in seen] == [False, False, False, False, True]


@scenario
async def details_of_a_success_are_dropped(lab: Lab) -> None:
    async def sets(request: StringValue, context: Any) -> StringValue:
        context.set_details("words")
        return request

    assert (await lab.outcome(lab.unary_unary(sets)(text("a")))).details == ""


@scenario
async def a_response_that_cannot_be_serialised_is_unknown(lab: Lab) -> None:
    responses: tuple[Any, ...] = (None, "text", 5)

    async def answers(request: StringValue, context: Any) -> Any:
        return responses[int(request.value)]

    for index in range(len(responses)):
        outcome = await lab.outcome(lab.unary_unary(answers)(text(str(index))))
        assert outcome.code is grpc.StatusCode.UNKNOWN


@scenario
async def messages_of_another_class_are_read_as_the_bytes_they_are(lab: Lab) -> None:
    async def answers(request: StringValue, context: Any) -> Int64Value:
        lab.saw(type(request).__name__, request.value)
        return Int64Value(value=3)

    outcome = await lab.outcome(lab.unary_unary(answers)(Int64Value(value=7)))
    assert outcome.responses == ("",)


@pytest.mark.parametrize("mode", ["tcp", "local"])
@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_a_scenario_holds(played: Scenario, mode: Mode, play: Play) -> None:
    await play(played, mode)


@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_both_ways_observe_the_same(played: Scenario, observed: Play) -> None:
    assert await observed(played, "local") == await observed(played, "tcp")
