from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest

from kit import calls, status
from kit.errors import KINDS, Unavailable
from kit.telemetry.otlp import request_of
from turnout.executor.v1 import execution_service_pb2 as pb

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


async def _answer(request: pb.RunRequest, context: Any) -> pb.RunResponse:
    return pb.RunResponse(request_id="req")


async def test_an_answer_passes(served: Any) -> None:
    assert (await served.run(_answer)).request_id == "req"


@pytest.mark.parametrize("kind", sorted(KINDS))
async def test_an_error_becomes_the_status_of_its_kind(served: Any, kind: str) -> None:
    async def fail(request: pb.RunRequest, context: Any) -> pb.RunResponse:
        raise KINDS[kind]("sentence", reason="REASON")

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await served.run(fail)

    assert failure.value.code() is status.CODES[kind]
    assert failure.value.details() == "sentence"
    assert status.reason_of(failure.value) == "REASON"


async def test_a_bug_says_internal_error_with_its_trace_and_nothing_else(
    served: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: pb.RunRequest, context: Any) -> pb.RunResponse:
        raise ValueError("secret detail")

    with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as failure:
        await served.run(fail, metadata=(*served.metadata, ("traceparent", f"00-{TRACE}-{PARENT}-00")))

    assert failure.value.code() is grpc.StatusCode.INTERNAL
    assert failure.value.details() == f"internal error; trace {TRACE}"
    assert "secret detail" not in str(failure.value.trailing_metadata())
    assert any("bug" in record.message and record.exc_info for record in caplog.records)


async def test_an_abort_by_the_rpc_itself_passes(served: Any) -> None:
    async def abort(request: pb.RunRequest, context: Any) -> pb.RunResponse:
        await context.abort(grpc.StatusCode.DATA_LOSS, "own")
        raise AssertionError

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await served.run(abort)

    assert (failure.value.code(), failure.value.details()) == (grpc.StatusCode.DATA_LOSS, "own")


async def test_trailing_metadata_travels_with_answers_and_with_errors(served: Any) -> None:
    async def answer(request: pb.RunRequest, context: Any) -> pb.RunResponse:
        calls.current().trailing_metadata.append(("turnout-sequence", "7"))
        if request.deployment == "bad":
            raise Unavailable("no", reason="NO")
        return pb.RunResponse()

    served.servicer.behaviour = answer
    from turnout.executor.v1 import execution_service_pb2_grpc as rpc

    stub = rpc.ExecutionServiceStub(served.channel)
    call = stub.Run(pb.RunRequest(deployment="d"), metadata=served.metadata)
    await call
    assert ("turnout-sequence", "7") in tuple(await call.trailing_metadata())
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await stub.Run(pb.RunRequest(deployment="bad"), metadata=served.metadata)
    assert ("turnout-sequence", "7") in tuple(failure.value.trailing_metadata())


async def test_the_callers_deadline_is_the_calls(served: Any) -> None:
    seen: list[float] = []

    async def answer(request: pb.RunRequest, context: Any) -> pb.RunResponse:
        seen.append(calls.current().remaining_seconds())
        return pb.RunResponse()

    await served.run(answer, timeout=30)
    await served.run(answer)

    assert 25 < seen[0] < 30.5
    assert 590 < seen[1] <= 600.5


async def test_a_caller_who_leaves_cancels_the_call(served: Any) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def wait(request: pb.RunRequest, context: Any) -> pb.RunResponse:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    task = asyncio.create_task(served.run(wait))
    await asyncio.wait_for(started.wait(), 5)
    task.cancel()
    await asyncio.wait_for(ended.wait(), 5)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_passed_deadline_is_told_and_cancels_the_call(served: Any) -> None:
    ended = asyncio.Event()

    async def wait(request: pb.RunRequest, context: Any) -> pb.RunResponse:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await served.run(wait, timeout=0.1)

    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.wait_for(ended.wait(), 5)


async def test_every_call_has_a_trace_id_and_keeps_the_callers(served: Any) -> None:
    seen: list[str] = []

    async def answer(request: pb.RunRequest, context: Any) -> pb.RunResponse:
        seen.append(calls.current().trace.trace_id)
        return pb.RunResponse()

    await served.run(answer)
    await served.run(answer, metadata=(*served.metadata, ("traceparent", f"00-{TRACE}-{PARENT}-01")))
    await served.run(answer, metadata=(*served.metadata, ("traceparent", "garbage")))

    assert seen[1] == TRACE
    assert len(set(seen)) == 3
    assert all(len(trace_id) == 32 for trace_id in seen)


async def test_a_sampled_call_is_one_server_span_in_the_callers_trace(traced: Any) -> None:
    await traced.run(_answer, metadata=(*traced.metadata, ("traceparent", f"00-{TRACE}-{PARENT}-01")))

    [span] = traced.exported()
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == PARENT
    assert span.name == "turnout.executor.v1.ExecutionService/Run"
    assert span.attributes["rpc.response.status_code"] == "OK"


async def test_a_call_that_its_caller_did_not_sample_makes_no_span(traced: Any) -> None:
    await traced.run(_answer, metadata=(*traced.metadata, ("traceparent", f"00-{TRACE}-{PARENT}-00")))

    assert traced.exported() == []


async def test_a_failed_call_marks_its_span_by_reason_and_not_by_text(traced: Any) -> None:
    async def fail(request: pb.RunRequest, context: Any) -> pb.RunResponse:
        raise Unavailable("quotes what the caller said", reason="PROVIDER_FAILED")

    with pytest.raises(grpc.aio.AioRpcError):
        await traced.run(fail)

    [span] = traced.exported()
    assert span.attributes["error.type"] == "PROVIDER_FAILED"
    assert "quotes" not in str(request_of([span]))
