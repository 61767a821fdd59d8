"""ExecutionService: RPC in, application, RPC out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from kit import calls
from services.executor import convert
from services.executor.application import Executor
from services.executor.domain import RunCall
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1 import execution_service_pb2_grpc as rpc


class ExecutionServicer(rpc.ExecutionServiceServicer):
    """Runs completions for callers."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def Run(self, request: pb.RunRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.RunResponse:
        return convert.run_to_proto(await self._executor.run(_call(request)))

    async def RunStream(
        self, request: pb.RunStreamRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.RunStreamResponse]:
        async with aclosing(self._executor.run_stream(_call(request.run, is_streamed=True))) as events:
            async for run, piece in events:
                yield convert.stream_event_to_proto(run, piece)


def _call(request: pb.RunRequest, *, is_streamed: bool = False) -> RunCall:
    call, principal = calls.current(), calls.principal()
    return convert.run_call_from_proto(
        request,
        user_agent=call.text("user-agent"),
        tenant=principal.tenant,
        key_id=principal.key_id,
        trace_id=call.trace.trace_id,
        deadline=call.deadline,
        is_streamed=is_streamed,
    )
