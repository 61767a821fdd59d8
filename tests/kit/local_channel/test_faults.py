"""Whoever leaves, and whenever: every call ends, every servicer is let go, nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

import grpc
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.local_channel import LocalChannel

Kind = Literal["unary_unary", "unary_stream", "stream_unary", "stream_stream"]
KINDS: tuple[Kind, ...] = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
Ending = Literal["returns", "raises", "aborts", "cancels", "waits"]
Leaving = Literal["awaits", "cancels the call", "cancels the task", "drops", "times out"]


class Servicer:
    """Works for some turns of the loop, then ends as it is told."""

    def __init__(self, turns: int, ending: Ending) -> None:
        self._turns, self._ending = turns, ending
        self.running = 0

    async def _work(self, context: Any) -> None:
        for _ in range(self._turns):
            await asyncio.sleep(0)
        match self._ending:
            case "raises":
                raise ValueError("boom")
            case "aborts":
                await context.abort(grpc.StatusCode.ABORTED, "enough")
            case "cancels":
                raise asyncio.CancelledError
            case "waits":
                await asyncio.Event().wait()

    async def unary(self, request: Any, context: Any) -> StringValue:
        self.running += 1
        try:
            if not isinstance(request, StringValue):
                async for _ in request:
                    await asyncio.sleep(0)
            await self._work(context)
            return StringValue(value="done")
        finally:
            self.running -= 1

    async def stream(self, request: Any, context: Any) -> AsyncIterator[StringValue]:
        self.running += 1
        try:
            for number in range(20):
                yield StringValue(value=str(number))
                if not isinstance(request, StringValue):
                    await context.read()
            await self._work(context)
        finally:
            self.running -= 1


async def requests() -> AsyncIterator[StringValue]:
    for number in range(20):
        await asyncio.sleep(0)
        yield StringValue(value=str(number))


async def use(call: Any) -> None:
    if hasattr(call, "__await__"):
        await call
        return
    async for _ in call:
        await asyncio.sleep(0)


async def one_call(kind: Kind, servicer: Servicer, leaving: Leaving, turns: int) -> None:
    streams_requests, streams_responses = kind.startswith("stream"), kind.endswith("stream")
    make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
    handler = make(
        servicer.stream if streams_responses else servicer.unary,
        request_deserializer=StringValue.FromString,
        response_serializer=StringValue.SerializeToString,
    )
    async with LocalChannel(lambda _: handler) as channel:
        method: Any = getattr(channel, kind)("/test/X", StringValue.SerializeToString, StringValue.FromString)
        # What waits for ever and is not told to leave would end only with the channel.
        timeout = 0.002 if leaving in ("awaits", "times out") else None
        call = method(requests() if streams_requests else StringValue(), timeout=timeout)
        ends: list[object] = []
        call.add_done_callback(ends.append)
        using = asyncio.create_task(use(call))
        for _ in range(turns):
            await asyncio.sleep(0)
        match leaving:
            case "cancels the call":
                call.cancel()
            case "cancels the task":
                using.cancel()
            case "drops":
                using.cancel()
                del call
        async with asyncio.timeout(5):
            await asyncio.wait([using])
        outcome = None if using.cancelled() else using.exception()
        assert outcome is None or isinstance(outcome, grpc.aio.AioRpcError)
    assert len(ends) == 1
    assert not channel.live
    assert servicer.running == 0


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    ending=st.sampled_from(["returns", "raises", "aborts", "cancels", "waits"]),
    leaving=st.sampled_from(["awaits", "cancels the call", "cancels the task", "drops", "times out"]),
    servicer_turns=st.integers(0, 6),
    caller_turns=st.integers(0, 60),
)
async def test_every_call_ends_and_leaves_nothing(
    kind: Kind, ending: Ending, leaving: Leaving, servicer_turns: int, caller_turns: int
) -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
    before = asyncio.all_tasks()
    await one_call(kind, Servicer(servicer_turns, ending), leaving, caller_turns)
    async with asyncio.timeout(5):
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0)
    assert complaints == []
