"""The caller's side of a call: what calling a stub's method returns, one class per kind of rpc."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import AsyncIterable, AsyncIterator, Callable, Generator, Iterable
from functools import partial
from typing import Any, Final

import grpc

from kit.local_channel.codec import Codec
from kit.local_channel.rpc import ABANDONED, LOCALLY_CANCELLED, Rpc

log = logging.getLogger(__name__)

_ALREADY_FINISHED: Final = "RPC already finished."
_HALF_CLOSED: Final = 'RPC is half closed after calling "done_writing".'
_MIXED: Final = "The iterator and read/write APIs may not be mixed on a single RPC."


class _Style(enum.Enum):
    ITERATOR = enum.auto()
    READER_WRITER = enum.auto()


class LocalCall(grpc.aio.Call):
    """What all kinds of calls offer."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    def cancelled(self) -> bool:
        status = self._rpc.status
        return status is not None and status.code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._rpc.status is not None

    def time_remaining(self) -> float | None:
        return self._rpc.time_remaining()

    def cancel(self) -> bool:
        return self._rpc.cancel(LOCALLY_CANCELLED)

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._rpc.add_done_callback(partial(callback, self))

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(*await self._rpc.until_initial_metadata())

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(*(await self._rpc.until_end()).trailing_metadata)

    async def code(self) -> grpc.StatusCode:
        return (await self._rpc.until_end()).code

    async def details(self) -> str:
        return (await self._rpc.until_end()).details

    async def debug_error_string(self) -> str:
        """Beyond the interface, as grpc's own calls have it."""
        await self._rpc.until_end()
        return self._rpc.debug_error_string()

    async def wait_for_connection(self) -> None:
        if self.done():
            self._rpc.raise_for_status()

    def __repr__(self) -> str:
        status = self._rpc.status
        return f"<{type(self).__name__} {self._rpc.method}: {'in progress' if status is None else status.code.name}>"


class _UnaryResponse(LocalCall):
    def __await__(self) -> Generator[Any, None, Any]:
        rpc = self._rpc
        while rpc.status is None:
            try:
                yield from rpc.change()
            except asyncio.CancelledError:
                self.cancel()
                raise
        return rpc.result()


class _StreamResponse(LocalCall):
    def __init__(self, rpc: Rpc) -> None:
        super().__init__(rpc)
        self._reading: _Style | None = None
        self._is_exhausted = False

    def __del__(self) -> None:
        _abandon(self)

    # The call is its own iterator, so that whoever drops it, in the middle of a loop too, is seen to leave at once.
    def __aiter__(self) -> AsyncIterator[Any]:
        self._read_by(_Style.ITERATOR)
        return self

    async def __anext__(self) -> Any:
        if self._is_exhausted:
            raise StopAsyncIteration
        try:
            response = await self._read()
            if response is not grpc.aio.EOF:
                return response
            self._rpc.raise_for_status()
        except BaseException:
            self._is_exhausted = True
            raise
        self._is_exhausted = True
        raise StopAsyncIteration

    async def read(self) -> Any:
        if self._rpc.status is not None:
            self._rpc.raise_for_status()
            return grpc.aio.EOF
        if self._reading is not _Style.READER_WRITER:
            self._read_by(_Style.READER_WRITER)
        response = await self._read()
        if response is grpc.aio.EOF:
            self._rpc.raise_for_status()
        return response

    async def _read(self) -> Any:
        if self._rpc.is_locally_cancelled:
            raise asyncio.CancelledError
        try:
            return await self._rpc.read_response()
        except asyncio.CancelledError:
            self.cancel()
            raise

    def _read_by(self, style: _Style) -> None:
        if self._reading is None:
            self._reading = style
        elif self._reading is not style:
            raise grpc.aio.UsageError(_MIXED)


class _StreamRequest(LocalCall):
    def __init__(self, rpc: Rpc, requests: Codec | None, iterator: AsyncIterable[Any] | Iterable[Any] | None) -> None:
        super().__init__(rpc)
        self._codec = requests
        self._writing = _Style.READER_WRITER if iterator is None else _Style.ITERATOR
        self._is_half_closed = False
        if iterator is not None and requests is not None:
            rpc.feeder = asyncio.create_task(_feed(rpc, requests, iterator))

    async def write(self, request: Any) -> None:
        self._write_by_hand()
        if self.done():
            raise asyncio.InvalidStateError(_ALREADY_FINISHED)
        if self._is_half_closed:
            raise asyncio.InvalidStateError(_HALF_CLOSED)
        try:
            await _send(self._rpc, self._codec, request)
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def done_writing(self) -> None:
        self._write_by_hand()
        if not self.done() and self._rpc.requests is not None:
            self._is_half_closed = True
            self._rpc.requests.end()

    def _write_by_hand(self) -> None:
        if self._writing is not _Style.READER_WRITER:
            raise grpc.aio.UsageError(_MIXED)


# The messages of the four kinds below are whatever the generated stub says; one class serves all methods.
class LocalUnaryUnaryCall(_UnaryResponse, grpc.aio.UnaryUnaryCall[Any, Any]):
    """Await it for the response."""

    async def wait_for_connection(self) -> None:
        """Waits for the end, as grpc does for this kind."""
        await self


class LocalUnaryStreamCall(_StreamResponse, grpc.aio.UnaryStreamCall[Any, Any]):
    """Iterate it, or read it."""

    async def wait_for_connection(self) -> None:
        try:
            await self._rpc.until_initial_metadata()
        except asyncio.CancelledError:
            self.cancel()
            raise
        await super().wait_for_connection()


class LocalStreamUnaryCall(_StreamRequest, _UnaryResponse, grpc.aio.StreamUnaryCall[Any, Any]):
    """Give it an iterator of requests or write to it, then await it."""

    def __del__(self) -> None:
        # With an iterator the call can still go to its end, and does, as with grpc; without one nobody could end it.
        if self._writing is _Style.READER_WRITER:
            _abandon(self)


class LocalStreamStreamCall(_StreamRequest, _StreamResponse, grpc.aio.StreamStreamCall[Any, Any]):
    """Give it an iterator of requests or write to it; iterate it or read it."""


async def _send(rpc: Rpc, codec: Codec | None, request: Any) -> None:
    assert rpc.requests is not None  # noqa: S101  # only calls with streamed requests write
    # Without a codec there is no servicer, and nobody will read what is sent before the call ends for that.
    if not await rpc.requests.put(*((request, 0) if codec is None else codec.carry(request))):
        raise asyncio.InvalidStateError(_ALREADY_FINISHED)


async def _feed(rpc: Rpc, codec: Codec, iterator: AsyncIterable[Any] | Iterable[Any]) -> None:
    try:
        if isinstance(iterator, AsyncIterable):
            async for request in iterator:
                await _send(rpc, codec, request)
        else:
            for request in iterator:
                await _send(rpc, codec, request)
        if rpc.requests is not None:
            rpc.requests.end()
    except (asyncio.CancelledError, Exception) as error:  # noqa: BLE001  # whatever the caller's iterator raises
        if rpc.cancel(LOCALLY_CANCELLED):
            log.debug("a request iterator raises", extra={"rpc": rpc.method, "error": type(error).__name__})


def _abandon(call: LocalCall) -> None:
    # A call whose making failed has no rpc.
    rpc: Rpc | None = getattr(call, "_rpc", None)
    if rpc is not None and rpc.status is None:
        rpc.cancel_soon(ABANDONED)
