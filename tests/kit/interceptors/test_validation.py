from __future__ import annotations

from typing import Any

import grpc
import pytest

from kit import status
from turnout.executor.v1 import execution_service_pb2 as pb


async def _never(request: pb.RunRequest, context: Any) -> pb.RunResponse:
    raise AssertionError("the rpc's code must not run")


async def test_a_request_that_breaks_its_contract_is_refused_with_the_path_of_every_field(served: Any) -> None:
    request = pb.RunRequest(deployment="x" * 500, routing_key="x" * 600)
    request.messages.add(content="no role")

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await served.run(_never, request=request)

    error = status.from_rpc_error(failure.value, peer="test")
    assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "INVALID_REQUEST"
    assert {violation.field for violation in error.violations} == {"deployment", "routing_key", "messages[0].role"}


async def test_the_key_is_checked_before_the_message(served: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await served.run(_never, request=pb.RunRequest(), metadata=())

    assert failure.value.code() is grpc.StatusCode.UNAUTHENTICATED
