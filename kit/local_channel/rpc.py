"""One call in flight: what its two sides share, and the rules for how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, Final, NamedTuple

import grpc

from kit.local_channel.codec import Oversized
from kit.local_channel.metadata import Given, InvalidMetadata, MetadataTooLarge, Pairs, deliver
from kit.local_channel.pipe import Pipe

log = logging.getLogger(__name__)

LOCALLY_CANCELLED: Final = "Locally cancelled by application!"
ABANDONED: Final = "Cancelled upon garbage collection!"
OVERSIZED: Final = "{}: Received message larger than max ({} vs. {})"


class Status(NamedTuple):
    """How a call ended, as the caller sees it."""

    code: grpc.StatusCode
    details: str = ""
    trailing_metadata: Pairs = ()


OK: Final = Status(grpc.StatusCode.OK)
DEADLINE_EXCEEDED: Final = Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
INVALID_METADATA: Final = Status(grpc.StatusCode.INTERNAL, "Invalid metadata")


def metadata_too_large(error: MetadataTooLarge) -> Status:
    """What the caller sees where gRPC would refuse metadata for its size."""
    return Status(grpc.StatusCode.RESOURCE_EXHAUSTED, f"received metadata size exceeds hard limit ({error})")


class Rpc:
    """The state of one call. Everything happens in the loop that made it.

    A call ends once, for the caller: by the servicer's status when all responses are read, by the deadline, or by the
    caller. When that happens both pipes are torn and the servicer's task, if it still runs, is cancelled.

    :param live: the channel's calls; this one is in it until it has ended and its servicer has returned
    """

    __slots__ = (
        "_callbacks",
        "_final",
        "_live",
        "_loop",
        "_max_message_bytes",
        "_timer",
        "_waiters",
        "answered",
        "deadline",
        "feeder",
        "initial_metadata",
        "invocation_metadata",
        "is_locally_cancelled",
        "is_started",
        "method",
        "requests",
        "response",
        "responses",
        "status",
        "task",
    )

    def __init__(
        self,
        method: str,
        loop: asyncio.AbstractEventLoop,
        live: set[Rpc],
        *,
        timeout: float | None,
        metadata: Pairs,
        max_message_bytes: int,
        request_streaming: bool,
        response_streaming: bool,
    ) -> None:
        self.method = method
        self.invocation_metadata = metadata
        self.requests = Pipe(loop) if request_streaming else None
        self.responses = Pipe(loop) if response_streaming else None
        self.response: Any = None
        self.initial_metadata: Pairs | None = None
        self.status: Status | None = None
        self.is_locally_cancelled = False
        self.answered = False
        """Whether the servicer's side has given its status."""
        self.task: asyncio.Task[None] | None = None
        """The servicer's task, until it returns."""
        self.is_started = False
        """Whether that task has taken its first step: one that is cancelled before never says that it returns."""
        self.feeder: asyncio.Task[None] | None = None
        """The task that reads the caller's request iterator."""
        self._final: Status | None = None
        self._loop = loop
        self._live = live
        self._max_message_bytes = max_message_bytes
        self._callbacks: list[tuple[Context, Callable[[], object]]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self.deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        if timeout is not None:
            self.deadline = loop.time() + timeout
            if timeout != float("inf"):
                self._timer = loop.call_at(self.deadline, self.end, DEADLINE_EXCEEDED)
        live.add(self)

    def time_remaining(self) -> float | None:
        """Seconds, never negative; None without a deadline."""
        return None if self.deadline is None else max(self.deadline - self._loop.time(), 0)

    def serve(self, servicer: Coroutine[Any, Any, None]) -> None:
        """Run the servicer's side in a task of its own, to which nothing of the caller's context leaks."""
        # Not by the loop's method, which makes up a name before it takes this one.
        self.task = asyncio.Task(servicer, loop=self._loop, name=self.method, context=Context())

    def refuse(self, status: Status) -> None:
        """End a call that reached no servicer, soon: no call is over before its caller holds it."""
        self._loop.call_soon(self.end, status)

    def cancel(self, details: str) -> bool:
        """End the call for the caller's reasons; False if it has ended before."""
        if self.status is not None:
            return False
        self.is_locally_cancelled = True
        self.end(Status(grpc.StatusCode.CANCELLED, details))
        return True

    def cancel_soon(self, details: str) -> None:
        """As :meth:`cancel`, from wherever the garbage collector happens to run."""
        # A closed loop runs no servicer either.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.cancel, details)

    def end(self, status: Status) -> None:
        """End the call for the caller; without effect if it has ended before."""
        if self.status is not None:
            return
        self.status = status
        if self.initial_metadata is None:
            self.initial_metadata = ()
        if self._timer is not None:
            self._timer.cancel()
        if self.requests is not None:
            self.requests.tear()
        if self.responses is not None:
            self.responses.tear()
        if self.feeder is not None:
            self.feeder.cancel()
        if self.task is None:
            self._live.discard(self)
        elif not self.answered:
            self.task.cancel()
            if not self.is_started:
                self.served()
        if self._waiters:
            self._wake()
        if self._callbacks:
            self._call_back()

    def answer(self, status: Status, response: Any = None) -> None:
        """Give the servicer's status, which the caller sees once it has read all responses."""
        if self.answered:
            return
        self.answered = True
        if self.responses is None:
            if isinstance(response, Oversized):
                status = self.oversized("CLIENT", response)
            else:
                self.response = response
        elif not self.responses.is_empty:
            if self.initial_metadata is None:
                self.initial_metadata = ()
            self._final = status
            self.responses.end()
            if self.requests is not None:
                self.requests.tear()
            self._wake()
            return
        self.end(status)

    def served(self) -> None:
        """The servicer's task is about to return."""
        self.task = None
        if self.status is not None:
            self._live.discard(self)

    def send_initial_metadata(self, pairs: Pairs) -> None:
        """What the servicer sends first. The caller of a unary-unary rpc asks for it when all has arrived."""
        if self.initial_metadata is None:
            self.initial_metadata = pairs
            if self.requests is not None or self.responses is not None:
                self._wake()

    async def read_request(self) -> Any:
        """The servicer's next request, or `grpc.aio.EOF`."""
        if self.requests is None:
            return grpc.aio.EOF
        message = await self.requests.get()
        return self._refused(message, "SERVER") if isinstance(message, Oversized) else message

    async def read_response(self) -> Any:
        """The caller's next response, or `grpc.aio.EOF`."""
        assert self.responses is not None  # noqa: S101  # only calls with streamed responses offer to read
        response = await self.responses.get()
        if isinstance(response, Oversized):
            response = self._refused(response, "CLIENT")
        if self._final is not None and self.responses.is_empty:
            self.end(self._final)
        return response

    def _refused(self, message: Oversized, reader: str) -> Any:
        self.end(self.oversized(reader, message))
        return grpc.aio.EOF

    def oversized(self, reader: str, message: Oversized) -> Status:
        """What the caller sees when `reader`, SERVER or CLIENT, meets a message that is too large."""
        return Status(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            OVERSIZED.format(reader, message.size_bytes, self._max_message_bytes),
        )

    def result(self) -> Any:
        """The response of a call that has ended.

        :raises asyncio.CancelledError: if the caller cancelled it
        :raises grpc.aio.AioRpcError: if it ended with another status than OK
        """
        self.raise_for_status()
        return self.response

    def raise_for_status(self) -> None:
        """As :meth:`result`, without the response."""
        status = self.status
        if status is OK:
            return
        if self.is_locally_cancelled:
            raise asyncio.CancelledError
        if status is not None and status.code is not grpc.StatusCode.OK:
            raise grpc.aio.AioRpcError(
                status.code,
                grpc.aio.Metadata(*(self.initial_metadata or ())),
                grpc.aio.Metadata(*status.trailing_metadata),
                details=status.details,
                debug_error_string=self.debug_error_string(),
            )

    def debug_error_string(self) -> str:
        """For people; empty when nothing is wrong."""
        status = self.status
        if status is None or status.code is grpc.StatusCode.OK:
            return ""
        return f"local:{self.method} {status.code.name}: {status.details}"

    def add_done_callback(self, callback: Callable[[], object]) -> None:
        """Call it when the call ends, at once if it has."""
        if self.status is not None:
            callback()
        else:
            # The end may come from the servicer's task, whose context must not leak either.
            self._callbacks.append((copy_context(), callback))

    def change(self) -> asyncio.Future[None]:
        """Done when initial metadata has arrived or the call has ended; look which."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        return waiter

    async def until_end(self) -> Status:
        """Wait for the end; a caller who stops waiting does not cancel the call."""
        while self.status is None:
            await self.change()
        return self.status

    async def until_initial_metadata(self) -> Pairs:
        """Wait for it, as :meth:`until_end`."""
        is_early = self.requests is not None or self.responses is not None
        while self.initial_metadata is None or not (is_early or self.status is not None):
            await self.change()
        return self.initial_metadata

    def _call_back(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for context, callback in callbacks:
            try:
                context.run(callback)
            except Exception:
                log.exception("a done callback of a local call raises", extra={"rpc": self.method})

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def delivered(metadata: Given, details: str) -> Pairs | Status:
    """Trailing metadata as the caller gets it, or the status that it gets instead.

    :param details: the status message, which travels along and counts
    """
    try:
        return deliver(metadata, also_bytes=len(details.encode(errors="replace")))
    except (InvalidMetadata, TypeError):
        return INVALID_METADATA
    except MetadataTooLarge as error:
        return metadata_too_large(error)
