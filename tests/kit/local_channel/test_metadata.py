"""Metadata in all three directions: what TCP delivers, the local channel delivers, and what TCP refuses, it refuses."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.local_channel import CheckedMetadata
from kit.local_channel.metadata import MAX_BYTES, InvalidMetadata, MetadataTooLarge, by_key, deliver

if TYPE_CHECKING:
    from tests.kit.local_channel.conftest import Lab, Mode, Play, Scenario

# grpc delivers late events of a call to the loop that made it, and complains if that is closed: one loop for all.
in_one_loop = pytest.mark.asyncio(loop_scope="session")

SCENARIOS: list[Scenario] = []
TOO_LARGE = (("x-large", "1" * 17_000),)


def scenario(function: Scenario) -> Scenario:
    SCENARIOS.append(function)
    return function


async def returns_metadata(request: StringValue, context: Any) -> StringValue:
    """Give back what came, as initial and as trailing metadata."""
    pairs = tuple((key, value) for key, value in context.invocation_metadata() if key != "user-agent")
    await context.send_initial_metadata(pairs)
    context.set_trailing_metadata(pairs)
    return request


@scenario
async def pairs_travel_both_ways(lab: Lab) -> None:
    async def looks(request: StringValue, context: Any) -> StringValue:
        lab.saw_metadata(context)
        lab.saw(all(pair.key == pair[0] and pair.value == pair[1] for pair in context.invocation_metadata()))
        return await returns_metadata(request, context)

    pairs = (
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-one", "3"),
        ("x-bytes-bin", b"\x00\xff"),
        ("x-spaces", "  a  b  "),
        ("x-empty", ""),
        ("x-empty-bin", b""),
        ("x-ascii-bytes", b"abc"),
        ("x.dots_and-dashes", "a,b"),
        ("authorization", "Bearer x"),
        ("grpc-status-details-bin", b"1"),
    )
    call = lab.unary_unary(looks)
    for given_pairs in (pairs, list(pairs), grpc.aio.Metadata(*pairs), (), None):
        await lab.outcome(call(StringValue(), metadata=given_pairs))


@scenario
async def keys_of_the_transport_do_not_arrive(lab: Lab) -> None:
    async def looks(request: StringValue, context: Any) -> StringValue:
        lab.saw_metadata(context)
        return request

    call = lab.unary_unary(looks)
    for key in ("te", "content-type", "user-agent", "grpc-encoding", "grpc-accept-encoding"):
        await lab.outcome(call(StringValue(), metadata=((key, "x"), ("x-other", "1"))))
    assert lab.record.servicer == [(("x-other", "1"),)] * 5


@scenario
async def streams_with_invalid_metadata_end_at_once(lab: Lab) -> None:
    async def unreachable(*_: Any) -> Any:
        raise AssertionError("the servicer was called")

    for kind in (lab.unary_stream, lab.stream_unary, lab.stream_stream):
        argument = StringValue() if kind == lab.unary_stream else [StringValue()]
        outcome = await lab.outcome(kind(unreachable)(argument, metadata=(("X-Upper", "1"),)))
        assert (outcome.code, outcome.details) == (grpc.StatusCode.INTERNAL, "Invalid metadata")


@scenario
async def invalid_trailing_metadata_ends_the_call(lab: Lab) -> None:
    invalid: tuple[tuple[tuple[str, str], ...], ...] = ((("X-Upper", "1"),), (("x-line", "a\nb"),), (("", "1"),))

    async def sets(request: StringValue, context: Any) -> StringValue:
        context.set_trailing_metadata(invalid[int(request.value)])
        return request

    async def aborts(request: StringValue, context: Any) -> None:
        await context.abort(grpc.StatusCode.ABORTED, "words", invalid[int(request.value)])

    for behaviour in (sets, aborts):
        for index in range(len(invalid)):
            outcome = await lab.outcome(lab.unary_unary(behaviour)(StringValue(value=str(index))))
            assert (outcome.code, outcome.details) == (grpc.StatusCode.INTERNAL, "Invalid metadata")


@scenario
async def trailing_metadata_of_wrong_types_is_refused_when_it_is_set(lab: Lab) -> None:
    wrong: tuple[Any, ...] = ({"a": "b"}, [["x", "y"]], (("x", 1),), 5, (("x",),))

    async def sets(request: StringValue, context: Any) -> StringValue:
        context.set_trailing_metadata([("x-list", "1")])
        lab.saw(context.trailing_metadata())
        context.set_trailing_metadata(wrong[int(request.value)])
        return request

    for index in range(len(wrong)):
        outcome = await lab.outcome(lab.unary_unary(sets)(StringValue(value=str(index))))
        assert outcome.code is grpc.StatusCode.UNKNOWN


@scenario
async def invalid_initial_metadata_ends_the_call_and_raises(lab: Lab) -> None:
    ended = asyncio.Event()

    async def sends(request: StringValue, context: Any) -> StringValue:
        context.add_done_callback(lambda _: ended.set())
        try:
            await context.send_initial_metadata((("X-Upper", "1"),))
        except grpc.aio.InternalError:
            lab.saw("refused")
        return request

    outcome = await lab.outcome(lab.unary_unary(sends)(StringValue()))
    await lab.soon(ended.wait())
    assert (outcome.code, outcome.details) == (grpc.StatusCode.INTERNAL, "Invalid metadata")
    assert lab.record.servicer == ["refused"]


@scenario
async def initial_metadata_of_wrong_types_raises_and_can_be_tried_again(lab: Lab) -> None:
    async def sends(request: StringValue, context: Any) -> StringValue:
        for wrong in (5, (("x", 1),), (("x-bin", "text"),)):
            try:
                await context.send_initial_metadata(wrong)
            except TypeError as error:
                lab.saw(str(error))
        await context.send_initial_metadata([("x-list", "1")])
        try:
            await context.send_initial_metadata(())
        except grpc.aio.UsageError as error:
            lab.saw(str(error))
        return request

    assert (await lab.outcome(lab.unary_unary(sends)(StringValue()))).initial_metadata == (("x-list", "1"),)


@scenario
async def metadata_beyond_the_hard_limit_is_refused(lab: Lab) -> None:
    async def sets(request: StringValue, context: Any) -> StringValue:
        if request.value == "trailing":
            context.set_trailing_metadata(TOO_LARGE)
        if request.value == "initial":
            await context.send_initial_metadata(TOO_LARGE)
        if request.value == "details":
            await context.abort(grpc.StatusCode.ABORTED, "x" * 17_000)
        return request

    async def code_of(call: Any) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await call
        return failure.value.code()

    call = lab.unary_unary(sets)
    lab.note(await code_of(call(StringValue(value="request"), metadata=TOO_LARGE)))
    for where in ("trailing", "initial", "details"):
        lab.note(await code_of(call(StringValue(value=where))))
    assert lab.record.caller == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 4


KEYS = st.one_of(
    st.sampled_from(["x", "x-a", "x-b", "x-a-bin", "x-bin", "-bin", "a.b_c", "X", "x y", ":path", "", "x!", "é"]),
    st.text(max_size=5).map(lambda tail: f"x-{tail}"),
)
TEXTS = st.one_of(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8), st.text(max_size=4))
PAIRS = st.lists(st.tuples(KEYS, TEXTS | st.binary(max_size=4)), max_size=5)


def test_any_metadata_arrives_as_over_tcp_or_is_refused_as_over_tcp(connect: Any) -> None:
    """One server for all examples: starting one for each would take most of the time."""

    async def observe(call: Any, pairs: list[tuple[str, str | bytes]]) -> object:
        try:
            rpc = call(StringValue(), metadata=pairs)
            await rpc
        except (TypeError, UnicodeError):
            return "refused"
        except grpc.aio.InternalError:
            return "refused"
        except grpc.aio.AioRpcError as error:
            return "refused" if error.details() == "Invalid metadata" else error.details()
        return tuple(await rpc.initial_metadata()), tuple(await rpc.trailing_metadata())

    with asyncio.Runner() as runner:
        tcp, local = connect("tcp"), connect("local")
        calls = [runner.run(lab.__aenter__()).unary_unary(returns_metadata) for lab in (tcp, local)]

        @settings(max_examples=150, deadline=None)
        @given(PAIRS)
        def agrees(pairs: list[tuple[str, str | bytes]]) -> None:
            over_tcp, locally = [runner.run(observe(call, pairs)) for call in calls]
            assert locally == over_tcp

        try:
            agrees()
        finally:
            for lab in (tcp, local):
                runner.run(lab.__aexit__(None, None, None))


@given(PAIRS)
def test_keys_of_one_name_travel_together_in_order(pairs: list[tuple[str, str | bytes]]) -> None:
    assert tuple(by_key(pairs)) == tuple(grpc.aio.Metadata(*pairs))


@given(st.dictionaries(st.from_regex(r"x-[a-z0-9_.]*", fullmatch=True), st.from_regex(r"[ -~]*", fullmatch=True)))
def test_checked_metadata_are_what_would_be_delivered(texts: dict[str, str]) -> None:
    assert CheckedMetadata.of(texts) == deliver(texts.items())


async def test_checked_metadata_arrive_as_others(connect: Any) -> None:
    texts = {"x-b": "2", "x-a": "1"}
    async with connect("local") as lab:
        call = lab.unary_unary(returns_metadata)
        checked = call(StringValue(), metadata=CheckedMetadata.of(texts))
        await checked
        assert tuple(await checked.initial_metadata()) == tuple(texts.items())


def test_the_limit_counts_keys_values_overhead_and_what_travels_along() -> None:
    fits = MAX_BYTES - len("x") - 32
    assert deliver((("x", "1" * fits),)) == (("x", "1" * fits),)
    with pytest.raises(MetadataTooLarge):
        deliver((("x", "1" * fits),), also_bytes=1)
    with pytest.raises(InvalidMetadata):
        deliver((("x", "\x7f"),))


@in_one_loop
@pytest.mark.parametrize("mode", ["tcp", "local"])
@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_a_scenario_holds(played: Scenario, mode: Mode, play: Play) -> None:
    await play(played, mode)


@in_one_loop
@pytest.mark.parametrize("played", SCENARIOS, ids=lambda played: played.__name__)
async def test_both_ways_observe_the_same(played: Scenario, observed: Play) -> None:
    assert await observed(played, "local") == await observed(played, "tcp")
