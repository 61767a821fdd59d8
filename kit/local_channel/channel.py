"""The channel that generated stubs take, and their callables, one class per kind of rpc."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self

import grpc

from kit.local_channel.call import (
    LocalStreamStreamCall,
    LocalStreamUnaryCall,
    LocalUnaryStreamCall,
    LocalUnaryUnaryCall,
)
from kit.local_channel.codec import Codec, Deserializer, Oversized, Serializer
from kit.local_channel.handler import Handler, Route, route
from kit.local_channel.metadata import CheckedMetadata, Given, InvalidMetadata, MetadataTooLarge, Pairs, by_key, deliver
from kit.local_channel.rpc import (
    DEADLINE_EXCEEDED,
    INVALID_METADATA,
    LOCALLY_CANCELLED,
    Rpc,
    Status,
    metadata_too_large,
)

DEFAULT_MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
"""What grpc receives unless told otherwise."""

_CLOSED: Final = "Channel is closed."

# Messages are whatever the generated stub says; one class serves all methods.
Requests = AsyncIterable[Any] | Iterable[Any] | None


class LocalChannel(grpc.aio.Channel):
    """Calls handlers of this process. The differences from the network are listed in :mod:`kit.local_channel`.

    :param handlers: finds the handler of `/package.Service/Method`; asked at each call, so services may come later
    :param max_message_bytes: larger requests and responses end a call with RESOURCE_EXHAUSTED
    """

    def __init__(
        self,
        handlers: Callable[[str], Handler | None],
        *,
        max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    ) -> None:
        self.handlers: Final = handlers
        self.max_message_bytes: Final = max_message_bytes
        self.live: Final[set[Rpc]] = set()
        """The calls that have not ended or whose servicer has not returned."""
        self.is_closed = False
        """Whether calls are refused."""
        self._closing = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """The one that it is used in. Asking for it is a system call, so that is done once."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> LocalUnaryUnary:
        return LocalUnaryUnary(self, method, request_serializer, response_deserializer)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> LocalUnaryStream:
        return LocalUnaryStream(self, method, request_serializer, response_deserializer)

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> LocalStreamUnary:
        return LocalStreamUnary(self, method, request_serializer, response_deserializer)

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> LocalStreamStream:
        return LocalStreamStream(self, method, request_serializer, response_deserializer)

    async def close(self, grace: float | None = None) -> None:
        """Take no new calls, wait for those that run, cancel what is left, and wait for its servicers to return.

        :param grace: how long to wait before cancelling, in seconds; None cancels at once
        :raises ValueError: if it is negative
        """
        if self.is_closed:
            return
        if grace is not None and grace < 0:
            raise ValueError(f"grace must be non-negative, got {grace}.")
        self.is_closed = True
        self._closing.set()
        if grace and (running := [rpc for rpc in self.live if rpc.status is None]):
            waits = [asyncio.create_task(rpc.until_end()) for rpc in running]
            _, pending = await asyncio.wait(waits, timeout=grace)
            for wait in pending:
                wait.cancel()
        for rpc in list(self.live):
            rpc.cancel(LOCALLY_CANCELLED)
        # A servicer that closes the channel by which it was called cannot wait for itself.
        tasks = [rpc.task for rpc in self.live if rpc.task is not None and rpc.task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """READY until it is closed: there is nothing to connect."""
        return grpc.ChannelConnectivity.SHUTDOWN if self.is_closed else grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """:raises grpc.aio.UsageError: if the channel is closed: nothing will change any more"""
        if self.is_closed:
            raise grpc.aio.UsageError(_CLOSED)
        if last_observed_state is self.get_state():
            await self._closing.wait()

    async def channel_ready(self) -> None:
        """:raises grpc.aio.UsageError: if the channel is closed"""
        if self.is_closed:
            raise grpc.aio.UsageError(_CLOSED)


class _Callable:
    """One method of a stub."""

    __slots__ = ("_channel", "_deserializer", "_method", "_route", "_serializer")

    request_streaming = False
    response_streaming = False

    def __init__(
        self,
        channel: LocalChannel,
        method: str,
        request_serializer: Serializer | None,
        response_deserializer: Deserializer | None,
    ) -> None:
        self._channel = channel
        self._method = method
        self._serializer = request_serializer
        self._deserializer = response_deserializer
        self._route: Route | None = None

    def _start(
        self,
        request: Any,
        timeout: float | None,
        metadata: Given | None,
        credentials: grpc.CallCredentials | None,
    ) -> tuple[Rpc, Codec | None]:
        """Begin a call; the codec is that of its requests, None if it reaches no servicer.

        :raises grpc.aio.UsageError: if the channel is closed or credentials are given
        :raises Exception: whatever serialising the request raises, and TypeError for metadata of wrong Python types
        """
        channel = self._channel
        if channel.is_closed:
            raise grpc.aio.UsageError(_CLOSED)
        if credentials is not None:
            raise grpc.aio.UsageError("Call credentials are only valid on secure channels")
        found = self._find()
        pairs = _delivered(metadata) if metadata else ()
        carried = None
        if not (self.request_streaming or isinstance(found, Status)):
            carried, _ = found.requests.carry(request)
        rpc = Rpc(
            self._method,
            channel.loop(),
            channel.live,
            timeout=timeout,
            metadata=() if isinstance(pairs, Status) else pairs,
            max_message_bytes=channel.max_message_bytes,
            request_streaming=self.request_streaming,
            response_streaming=self.response_streaming,
        )
        if isinstance(pairs, Status):
            rpc.refuse(pairs)
        elif timeout is not None and timeout <= 0:
            rpc.refuse(DEADLINE_EXCEEDED)
        elif isinstance(found, Status):
            rpc.refuse(found)
        elif isinstance(carried, Oversized):
            rpc.refuse(rpc.oversized("SERVER", carried))
        else:
            rpc.serve(found.serve(rpc, carried))
            return rpc, found.requests
        return rpc, None

    def _find(self) -> Route | Status:
        handler = self._channel.handlers(self._method)
        if handler is None:
            return Status(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        if self._route is not None and self._route.handler is handler:
            return self._route
        if (handler.request_streaming, handler.response_streaming) != (self.request_streaming, self.response_streaming):
            return Status(grpc.StatusCode.UNIMPLEMENTED, f"{self._method} is an rpc of another kind")
        self._route = route(
            handler,
            request_serializer=self._serializer,
            response_deserializer=self._deserializer,
            max_message_bytes=self._channel.max_message_bytes,
        )
        return self._route


class LocalUnaryUnary(_Callable, grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    """One request, one response."""

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Given | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> LocalUnaryUnaryCall:
        rpc, _ = self._start(request, timeout, metadata, credentials)
        return LocalUnaryUnaryCall(rpc)


class LocalUnaryStream(_Callable, grpc.aio.UnaryStreamMultiCallable[Any, Any]):
    """One request, a stream of responses."""

    response_streaming = True

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Given | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> LocalUnaryStreamCall:
        rpc, _ = self._start(request, timeout, metadata, credentials)
        return LocalUnaryStreamCall(rpc)


class LocalStreamUnary(_Callable, grpc.aio.StreamUnaryMultiCallable[Any, Any]):
    """A stream of requests, one response."""

    request_streaming = True

    def __call__(
        self,
        request_iterator: Requests = None,
        timeout: float | None = None,
        metadata: Given | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> LocalStreamUnaryCall:
        rpc, requests = self._start(None, timeout, metadata, credentials)
        return LocalStreamUnaryCall(rpc, requests, request_iterator)


class LocalStreamStream(_Callable, grpc.aio.StreamStreamMultiCallable[Any, Any]):
    """A stream of requests, a stream of responses."""

    request_streaming = True
    response_streaming = True

    def __call__(
        self,
        request_iterator: Requests = None,
        timeout: float | None = None,
        metadata: Given | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> LocalStreamStreamCall:
        rpc, requests = self._start(None, timeout, metadata, credentials)
        return LocalStreamStreamCall(rpc, requests, request_iterator)


def _delivered(metadata: Given) -> Pairs | Status:
    if isinstance(metadata, CheckedMetadata):
        return metadata
    try:
        return deliver(by_key(metadata))
    except InvalidMetadata:
        return INVALID_METADATA
    except MetadataTooLarge as error:
        return metadata_too_large(error)
