"""A grpc.aio server whose call does nothing: what gRPC itself costs. Prints its address and pid, as JSON."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc
import uvloop

from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1 import execution_service_pb2_grpc as rpc


class Empty(rpc.ExecutionServiceServicer):
    """Answers nothing."""

    async def Run(self, request: pb.RunRequest, context: Any) -> pb.RunResponse:  # noqa: N802  # the contract's name
        return pb.RunResponse()

    async def GetConfig(self, request: pb.GetConfigRequest, context: Any) -> pb.GetConfigResponse:  # noqa: N802
        return pb.GetConfigResponse()

    async def RunStream(self, request: pb.RunStreamRequest, context: Any) -> AsyncIterator[pb.RunStreamResponse]:  # noqa: N802
        yield pb.RunStreamResponse()


async def main() -> None:
    """Serve until terminated."""
    server = grpc.aio.server()
    rpc.add_ExecutionServiceServicer_to_server(Empty(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"address": f"127.0.0.1:{port}", "pid": os.getpid()}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
