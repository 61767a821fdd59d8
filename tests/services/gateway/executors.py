"""An executor that does what a test says: a fake of a peer's contract, served by the real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from kit import calls
from kit.errors import AppError
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_pb2
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1 import execution_service_pb2_grpc as rpc
from turnout.router.v1 import decision_pb2

Step = pb.RunStreamResponse | AppError | asyncio.Event | Callable[[], pb.RunStreamResponse]

DECISION = decision_pb2.Decision(
    deployment="dep_assistant",
    alias="live",
    revision="rev_1",
    revision_number="1.0",
    variant="var_mild",
    variant_slug="mild",
    evaluation=decision_pb2.EVALUATION_DEFAULT_MATCHED,
    propensity=0.9,
    key_kind=decision_pb2.KEY_KIND_REQUEST,
)


def usage() -> message_pb2.Usage:
    return message_pb2.Usage(input_tokens=24, output_tokens=8, cached_input_tokens=4, reasoning_output_tokens=2)


def response(content: str = "Paris.", **fields: Any) -> pb.RunResponse:
    """A whole answer."""
    fields.setdefault("message", message_pb2.Message(role=message_pb2.ROLE_ASSISTANT, content=content))
    fields.setdefault("finish_reason", message_pb2.FINISH_REASON_STOP)
    fields.setdefault("usage", usage())
    return pb.RunResponse(
        request_id="req_1",
        decision=DECISION,
        provider="main",
        model="served-model",
        version="ver_1",
        cost_usd_micros=1_500,
        attempts=[execution_pb2.Attempt(), execution_pb2.Attempt()],
        latency_us=2_500,
        **fields,
    )


def started() -> pb.RunStreamResponse:
    start = pb.RunStarted(request_id="req_1", decision=DECISION, provider="main", model="served-model", version="ver_1")
    return pb.RunStreamResponse(started=start)


def delta(content: str = "", **fields: Any) -> pb.RunStreamResponse:
    return pb.RunStreamResponse(delta=pb.RunDelta(content=content, **fields))


def ended(**fields: Any) -> pb.RunStreamResponse:
    fields.setdefault("finish_reason", message_pb2.FINISH_REASON_STOP)
    fields.setdefault("usage", usage())
    end = pb.RunEnded(attempts=[execution_pb2.Attempt()], latency_us=2_500, **fields)
    return pb.RunStreamResponse(ended=end)


class ScriptedExecutor(rpc.ExecutionServiceServicer):
    """Answers `answer`, or streams `script`; an error in either is raised, an event is waited for."""

    def __init__(self) -> None:
        self.answer: pb.RunResponse | AppError | asyncio.Event = response()
        self.script: list[Step] = [started(), delta("Par"), delta("is."), ended()]
        self.requests: list[pb.RunRequest] = []
        self.calls: list[calls.Call] = []
        self.remaining: list[float] = []
        self.left = 0
        """How many callers left before their answer was whole."""
        self.ends = 0
        """How many streams came to their end, the steps after the last event included."""
        self.sent = 0
        """How many events of streams were taken by the caller's side."""

    async def Run(self, request: pb.RunRequest, context: Any) -> pb.RunResponse:
        self._note(request)
        answer = self.answer
        if isinstance(answer, AppError):
            raise answer
        if isinstance(answer, pb.RunResponse):
            return answer
        try:
            await answer.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        return response()

    async def GetConfig(self, request: pb.GetConfigRequest, context: Any) -> pb.GetConfigResponse:
        return pb.GetConfigResponse()

    async def RunStream(self, request: pb.RunStreamRequest, context: Any) -> AsyncIterator[pb.RunStreamResponse]:
        self._note(request.run)
        try:
            for step in self.script:
                if isinstance(step, asyncio.Event):
                    await step.wait()
                elif isinstance(step, AppError):
                    raise step
                else:
                    yield step if isinstance(step, pb.RunStreamResponse) else step()
                    self.sent += 1
            await asyncio.sleep(0)
            self.ends += 1
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise

    def _note(self, request: pb.RunRequest) -> None:
        call = calls.current()
        self.requests.append(request)
        self.calls.append(call)
        self.remaining.append(call.remaining_seconds())
