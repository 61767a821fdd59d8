"""`python -m kit.health [host:port]`: whether the process there serves; exit status 0 if it says so, 1 if not.

For a container's health check, which has no other gRPC client. Without an address it asks the one that
`TURNOUT_LISTEN_ADDRESS` names in this environment.
"""

from __future__ import annotations

import os
import sys
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SECONDS: Final = 3.0
"""How long the process may take to answer."""

_ANY_HOST: Final = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104  # what a server listens on, not we


def main(arguments: list[str]) -> int:
    """Ask, and say what was answered."""
    address = arguments[0] if arguments else os.environ.get("TURNOUT_LISTEN_ADDRESS", "127.0.0.1:7070")
    host, _, port = address.rpartition(":")
    address = f"{_ANY_HOST.get(host, host)}:{port}"
    try:
        with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
    except grpc.RpcError as error:
        print(f"{address} does not answer: {error.code().name}", file=sys.stderr)
        return 1
    print(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
