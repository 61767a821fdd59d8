"""An OTLP collector that discards what it gets, so that exporting is paid for. Prints its address, as JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import uvloop
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


class Discard(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes every span and keeps none."""

    async def Export(  # noqa: N802  # the contract's name
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        return trace_service_pb2.ExportTraceServiceResponse()


async def main() -> None:
    """Serve until terminated."""
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(Discard(), server)  # type: ignore[no-untyped-call]  # untyped
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"address": f"127.0.0.1:{port}"}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
