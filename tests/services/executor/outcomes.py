"""What became of a call: the record's status, and the details of the caller's."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from google.rpc import status_pb2

from kit.status import DETAILS_KEY
from turnout.events.v1 import request_pb2

CANCELLED = request_pb2.REQUEST_STATUS_CANCELLED
ERROR = request_pb2.REQUEST_STATUS_ERROR
OK = request_pb2.REQUEST_STATUS_OK


def details(failure: grpc.aio.AioRpcError, kind: Any) -> Any:
    """The detail of a status that is of this kind."""
    for key, value in failure.trailing_metadata() or ():
        if key == DETAILS_KEY:
            assert isinstance(value, bytes)
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Is(kind.DESCRIPTOR):
                    return kind.FromString(detail.value)
    raise AssertionError(f"no {kind.__name__} in {failure!r}")


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
