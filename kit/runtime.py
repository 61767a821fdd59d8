"""One process: any set of services, wired in one order, stopped in the reverse one.

A service is a function that takes the runtime and returns an async context manager. Entering it registers servicers;
leaving it ends their work. What several services of a process share (a connection, the spool) is entered once, first.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc

from kit.abreast import Abreast
from kit.errors import CannotStart
from kit.local_channel import LocalChannel
from kit.server import Server
from kit.telemetry import Tracing

log = logging.getLogger(__name__)

T = TypeVar("T")

_CANCEL_AGAIN_SECONDS: Final = 0.5

MAX_ANSWER_BYTES: Final = 16 << 20
"""The largest answer that one service takes from another, near or far."""
CHANNEL_OPTIONS: Final = (
    # A peer that vanished without a word is noticed within 20 s instead of never.
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
)


class MissingPeer(CannotStart):
    """A service that this process needs is neither here nor configured. The text is for the operator."""


@dataclass(frozen=True, slots=True)
class ProcessOptions:
    """What one process is."""

    instance: str
    """`service.instance.id`: another one for every start of every process."""
    services: tuple[str, ...]
    """Names of the services in this process."""
    peers: Mapping[str, str]
    """Addresses (`host:port`) of services elsewhere, by name; empty text means not configured."""
    ready_file: Path | None
    """Written once the process serves: JSON with `pid`, `port`, `ports` (others, by name) and `services`."""
    parent_pipe: int | None
    """A pipe that the parent holds open; when it closes, the parent is gone and this process stops."""


class Runtime:
    """Holds what the services of a process share, and its life from start to stop."""

    def __init__(self, options: ProcessOptions, server: Server, tracing: Tracing) -> None:
        self.options = options
        self.server = server
        self.tracing = tracing
        self.abreast: Final = Abreast()
        """Of the calls for whole answers that the process serves, from its gateway to its providers."""
        self.wired = asyncio.Event()
        """Set when every service has registered; background work that calls peers waits for it."""
        self.ports: dict[str, int] = {}
        """Where else than on gRPC's port this process listens, by name, such as `http`."""
        self._stack = AsyncExitStack()
        self._shared: dict[Callable[..., object], object] = {}
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._conditions: dict[str, asyncio.Event] = {}
        self._stop = asyncio.Event()
        self._on_stopping: list[Callable[[], None]] = []
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Runtime:
        await self._stack.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    async def enter(self, module: Callable[[Runtime], AbstractAsyncContextManager[None]]) -> None:
        """Wire one service; it is left, in reverse order, when the process stops."""
        await self._stack.enter_async_context(module(self))

    async def shared(self, factory: Callable[[Runtime], AbstractAsyncContextManager[T]]) -> T:
        """What `factory` makes, made once for the process and left after all services."""
        if factory not in self._shared:
            self._shared[factory] = await self._stack.enter_async_context(factory(self))
        return self._shared[factory]  # type: ignore[return-value]  # keyed by the factory that made it

    async def channel(self, service: str) -> grpc.aio.Channel:
        """How to reach a peer: its configured address, else this process.

        :raises MissingPeer: if it is in neither place
        """
        if service not in self._channels:
            address = self.options.peers.get(service, "")
            if address:
                self._channels[service] = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
            elif service in self.options.services:
                self._channels[service] = LocalChannel(self.server.handler, max_message_bytes=MAX_ANSWER_BYTES)
            else:
                together = ",".join((*self.options.services, service))
                raise MissingPeer(
                    f"the service {service!r} does not run in this process: set TURNOUT_{service.upper()}_ADDRESS "
                    f"to its host:port, or start it here too (`python -m services {together}`)"
                )
            # Before what was entered earlier is left: a servicer that still runs must find its database open.
            self._stack.push_async_callback(self._channels[service].close, None)
        return self._channels[service]

    def ready_when(self, name: str) -> asyncio.Event:
        """A condition of readiness: the process is not healthy before the event is set. `name` is for people."""
        return self._conditions.setdefault(name, asyncio.Event())

    @asynccontextmanager
    async def background(self, name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
        """Work beside the calls. If it ends by itself, by return or by exception, that is a bug: the process stops with
        failure, so that whoever supervises it starts a sound one, instead of limping on without it."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._on_background_done)
        try:
            yield
        finally:
            task.remove_done_callback(self._on_background_done)
            while not task.done():
                # Again: some libraries, and Python 3.11's wait_for, swallow a cancellation that meets a result.
                task.cancel()
                await asyncio.wait({task}, timeout=_CANCEL_AGAIN_SECONDS)

    def _on_background_done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception() or RuntimeError(f"{task.get_name()} ended by itself")
        log.critical("background work ends, so the process stops", extra={"task": task.get_name()}, exc_info=error)
        self._failure = error
        self._stop.set()

    def when_stopping(self, act: Callable[[], None]) -> None:
        """Call `act` when a stop begins, before calls are drained: streams without an end must be ended."""
        self._on_stopping.append(act)

    def stop(self) -> None:
        """Begin to stop; safe to call twice."""
        self._stop.set()

    async def serve(self) -> int:
        """Serve until told to stop, then drain.

        :return: the exit status: 0 after a signal, 1 after a failure
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if self.options.parent_pipe is not None:
            loop.add_reader(self.options.parent_pipe, self._on_parent_pipe)
        await self.server.start()
        self.wired.set()
        log.info("listening", extra={"port": self.server.port, "services": list(self.options.services)})
        ready = asyncio.create_task(self._become_ready())
        await self._stop.wait()
        ready.cancel()
        await asyncio.gather(ready, return_exceptions=True)
        log.info("draining")
        for act in self._on_stopping:
            act()
        await self.server.stop()
        return 1 if self._failure is not None else 0

    async def _become_ready(self) -> None:
        for name, condition in self._conditions.items():
            try:
                await asyncio.wait_for(condition.wait(), timeout=5)
            except TimeoutError:
                log.warning("not ready yet", extra={"waits_for": name})
                await condition.wait()
        await self.server.set_healthy(True)
        if self.options.ready_file is not None:
            ready = {
                "pid": os.getpid(),
                "port": self.server.port,
                "ports": self.ports,
                "services": list(self.options.services),
            }
            fresh = self.options.ready_file.with_suffix(".new")
            fresh.write_text(json.dumps(ready))
            fresh.replace(self.options.ready_file)
        _tune_garbage_collection()
        log.info("ready", extra={"port": self.server.port})

    def _on_parent_pipe(self) -> None:
        # Nothing is ever written to it: readable means closed.
        if self.options.parent_pipe is not None:
            asyncio.get_running_loop().remove_reader(self.options.parent_pipe)
        self.stop()


def _tune_garbage_collection() -> None:
    """Collect less often, and never again what the start has made: modules and descriptors live as long as we.

    A call makes thousands of short-lived containers and few cycles; by default that is several collections a call.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
