"""The gRPC server of one process, and the door through which services in the same process reach each other.

Generated `add_…Servicer_to_server` functions register with a :class:`Server` as with grpc's own. Each handler is
wrapped once with the interceptors; the wrapped handler is what both the network and the local channel run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import grpc
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kit.calls import Method
from kit.errors import CannotStart
from kit.interceptors import Chain
from kit.interceptors.chain import DEFAULT_DEADLINE_SECONDS
from kit.interceptors.reading import from_network
from turnout.options.v1 import options_pb2

MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""The largest request taken; answers are not bounded by the server."""

_MAX_RECEIVED_BYTES: Final = 4 * MAX_MESSAGE_BYTES
"""What grpc lets through, so that whoever sends too much hears why it is refused; beyond this, grpc itself refuses."""

_LAST_WORDS_SECONDS: Final = 0.2
"""For answers that were made and are still on their way through grpc."""

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a server behaves on the network."""

    address: str
    """`host:port`; port 0 picks a free one."""
    max_concurrent_calls: int
    """Above it, callers get RESOURCE_EXHAUSTED at once instead of waiting."""
    connection_age_seconds: int
    """After it, clients are asked to reconnect, so that long-lived channels spread over processes and machines. Calls
    that run by then go on for as long as a call without a deadline of its own may take."""
    drain_seconds: float
    """How long a stop waits for calls that run."""
    shares_port: bool
    """Whether other processes listen on the same port (SO_REUSEPORT)."""


class PortTaken(CannotStart):
    """The address cannot be listened on. The text is for the operator."""


class Server:
    """Collects handlers until :meth:`start`, then serves them."""

    def __init__(self, chain: Chain, options: ServerOptions) -> None:
        self._chain = chain
        self._options = options
        self._handlers: dict[str, Handler] = {}
        self._services: list[str] = []
        self._health = health.aio.HealthServicer()
        self._grpc: grpc.aio.Server | None = None
        self.port = 0

    # The two methods that generated code calls; every service calls both with the same handlers.
    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[object]) -> None:
        """Ignored: :meth:`add_registered_method_handlers` brings the same handlers with their names."""

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Handler]) -> None:
        """Wrap and keep a service's handlers.

        :raises ValueError: if an rpc's contract does not say who may call it
        """
        for name, handler in method_handlers.items():
            method = Method(f"/{service_name}/{name}", scope_of(service_name, name))
            self._handlers[method.full_name] = self._chain.wrap(method, handler)
        self._services.append(service_name)

    def handler(self, full_name: str) -> Handler | None:
        """The wrapped handler of `/package.Service/Method`, for local channels."""
        return self._handlers.get(full_name)

    @property
    def registrar(self) -> grpc.aio.Server:
        """This server, for the generated `add_…Servicer_to_server`: its two methods are all that they call."""
        return cast(grpc.aio.Server, self)

    @property
    def services(self) -> Sequence[str]:
        """Full names of what is served."""
        return tuple(self._services)

    async def start(self) -> None:
        """Listen and serve, not yet healthy.

        :raises PortTaken: if the address cannot be had
        """
        options = self._options
        server = grpc.aio.server(
            options=(
                ("grpc.so_reuseport", int(options.shares_port)),
                ("grpc.max_receive_message_length", _MAX_RECEIVED_BYTES),
                ("grpc.max_connection_age_ms", options.connection_age_seconds * 1000),
                # Not the drain: a connection that is old is no reason to cut a call that a model takes minutes for. Its
                # client has another connection by then, so what is left here ends with the longest call.
                ("grpc.max_connection_age_grace_ms", int(DEFAULT_DEADLINE_SECONDS * 1000)),
                # Clients that ping a connection to keep it are welcome; faster than this is abuse.
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ),
            maximum_concurrent_rpcs=options.max_concurrent_calls,
        )
        by_service: dict[str, dict[str, Handler]] = {}
        for full_name, handler in self._handlers.items():
            _, service, name = full_name.split("/")
            by_service.setdefault(service, {})[name] = from_network(handler, MAX_MESSAGE_BYTES)
        for service, handlers in by_service.items():
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
            server.add_registered_method_handlers(service, handlers)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (*self._services, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            self.port = server.add_insecure_port(options.address)
        except RuntimeError:
            raise PortTaken(
                f"cannot listen on {options.address}: the port is taken or the address is not this machine's; "
                "set TURNOUT_LISTEN_ADDRESS"
            ) from None
        await self.set_healthy(False)
        await server.start()
        self._grpc = server

    async def set_healthy(self, healthy: bool) -> None:
        """What the health service tells of this process and of each of its services."""
        state = health_pb2.HealthCheckResponse.SERVING if healthy else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in ("", *self._services):
            await self._health.set(name, state)

    async def stop(self) -> None:
        """Say NOT_SERVING, take no new calls, wait for those that run as long as the options say, then cut them."""
        if self._grpc is None:
            return
        await self._health.enter_graceful_shutdown()
        draining = asyncio.create_task(self._grpc.stop(self._options.drain_seconds))
        idle = asyncio.create_task(self._chain.idle.wait())
        await asyncio.wait({draining, idle}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        # Nobody of ours is served any more. Who only watches the health would hold the stop up to its end.
        await self._grpc.stop(_LAST_WORDS_SECONDS if idle.done() else 0)
        await draining
        # stop() returns when handlers were told to end; give their last steps (events, statuses) one turn of the loop.
        await asyncio.sleep(0)


def scope_of(service_name: str, method_name: str) -> str:
    """The scope that a contract asks for.

    :raises ValueError: if it asks for none: an rpc that anybody may call is a mistake
    """
    service = descriptor_pool.Default().FindServiceByName(service_name)
    rule = service.methods_by_name[method_name].GetOptions().Extensions[options_pb2.auth]
    if not rule.scope:
        raise ValueError(f"{service_name}.{method_name} carries no (turnout.options.v1.auth)")
    scope: str = rule.scope
    return scope
