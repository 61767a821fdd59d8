"""ExecutionService: RPC in, application, RPC out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from kit import calls, status
from kit.errors import Deadline
from services.executor.application import Executor
from services.executor.convert.answers import config_to_proto, run_to_proto, stream_event_to_proto
from services.executor.convert.calls import run_call_from_proto
from services.executor.convert.claims import claim_from_proto, refuse_key_of_stream, repeated_run_to_proto
from services.executor.domain import RunCall
from services.executor.idempotency import Idempotency
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1 import execution_service_pb2_grpc as rpc

_READ_SECONDS: Final = 1.0
"""How long after its deadline a stream that has ended may be read to its end."""


class ExecutionServicer(rpc.ExecutionServiceServicer):
    """Runs completions for callers."""

    def __init__(self, executor: Executor, idempotency: Idempotency) -> None:
        self._executor = executor
        self._idempotency = idempotency
        self._endings: set[asyncio.Task[None]] = set()
        """Of streams that nobody reads."""

    async def Run(self, request: pb.RunRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.RunResponse:
        step = self._executor.abreast.step
        await step()
        call = _call(request)
        if not request.idempotency_key:
            run = await self._executor.run(call)
            await step()
            return run_to_proto(run)
        async with self._idempotency.once(claim_from_proto(request, call)) as once:
            if once.answer is not None:
                return repeated_run_to_proto(once.answer)
            response = run_to_proto(await self._executor.run(call))
            await once.finish(response.SerializeToString())
            return response

    async def RunStream(
        self, request: pb.RunStreamRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.RunStreamResponse]:
        refuse_key_of_stream(request.run)
        call, task = _call(request.run, is_streamed=True), asyncio.current_task()
        assert task is not None  # noqa: S101  # whoever serves is one
        events = self._executor.run_stream(call)
        # A caller who does not read holds this at its `yield`, where no time-out of the call's own reaches it.
        timer = asyncio.get_running_loop().call_at(call.deadline + _READ_SECONDS, self._give_up, task, context)
        try:
            async for run, piece in events:
                yield stream_event_to_proto(run, piece)
        finally:
            timer.cancel()
            await events.aclose()

    def _give_up(self, task: asyncio.Task[Any], context: grpc.aio.ServicerContext[Any, Any]) -> None:
        # With a status, before it is cancelled: gRPC gives none to what is, and who reads on would wait for ever.
        ending = asyncio.create_task(_end(context))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        asyncio.get_running_loop().call_soon(task.cancel)

    async def GetConfig(
        self, request: pb.GetConfigRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.GetConfigResponse:
        return config_to_proto(*await self._executor.get_config(_call(request.run)))


async def _end(context: grpc.aio.ServicerContext[Any, Any]) -> None:
    error = Deadline(
        "the deadline passed before the stream was read; read faster, or allow more time", reason="DEADLINE_EXCEEDED"
    )
    trailers = ((status.DETAILS_KEY, status.details_of(error)),)
    # It is sent once the caller reads, or is gone.
    with contextlib.suppress(grpc.aio.AbortError, asyncio.CancelledError):
        await context.abort(status.code_of(error), status.text_of(error), trailers)


def _call(request: pb.RunRequest, *, is_streamed: bool = False) -> RunCall:
    call, principal = calls.current(), calls.principal()
    return run_call_from_proto(
        request,
        user_agent=call.text("user-agent"),
        tenant=principal.tenant,
        key_id=principal.key_id,
        trace_id=call.trace.trace_id,
        span_id=call.trace.span_id,
        is_sampled=call.trace.sampled,
        deadline=call.deadline,
        is_streamed=is_streamed,
    )
