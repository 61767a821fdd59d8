"""ExecutionService: RPC in, application, RPC out."""

from __future__ import annotations

from typing import Any

import grpc

from kit import calls
from services.executor import convert
from services.executor.application import Executor
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1 import execution_service_pb2_grpc as rpc


class ExecutionServicer(rpc.ExecutionServiceServicer):
    """Runs completions for callers."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    async def Run(self, request: pb.RunRequest, context: grpc.aio.ServicerContext[Any, Any]) -> pb.RunResponse:
        call, principal = calls.current(), calls.principal()
        run = await self._executor.run(
            convert.run_call_from_proto(
                request,
                user_agent=call.text("user-agent"),
                tenant=principal.tenant,
                key_id=principal.key_id,
                trace_id=call.trace.trace_id,
                deadline=call.deadline,
            )
        )
        return convert.run_to_proto(run)
