"""The chain around a handler: opens the call and trace, enters the interceptors, makes a status of what is raised."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from google.protobuf.message import Message

from kit import calls, status
from kit.calls import Call, Interceptor, Method
from kit.errors import AppError
from kit.interceptors.gate import Gate
from kit.interceptors.reading import ReadableRequests, Unreadable
from kit.telemetry import Span, Tracing, current_span, log_trace_id, parse_traceparent

log = logging.getLogger(__name__)

DEFAULT_DEADLINE_SECONDS: Final = 600.0
"""What bounds a call whose caller set no deadline."""

# The handlers of generated code carry no types; grpc calls them with whatever the deserialiser made.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Behaviour = Callable[..., Any]


class Chain:
    """Wraps handlers, one of each of the four kinds alike.

    :param interceptors: entered in this order, after the trace and the deadline are known
    """

    def __init__(self, tracing: Tracing, interceptors: Sequence[Interceptor]) -> None:
        self.tracing: Final = tracing
        self.interceptors: Final = tuple(interceptors)
        places = reversed(tuple(enumerate(self.interceptors)))
        self.leaving: Final = tuple((place, each) for place, each in places if not isinstance(each, Gate))
        """Those that are told of a call's end, in that order, with their place among all."""
        self.active = 0
        """How many calls are served."""
        self.idle: Final = asyncio.Event()
        """Set while none is."""
        self.idle.set()

    def wrap(self, method: Method, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """The same handler with everything around it."""
        serializers = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.request_streaming and handler.response_streaming:
            streaming = self._stream(method, handler.stream_stream, takes_stream=True)
            return grpc.stream_stream_rpc_method_handler(streaming, **serializers)
        if handler.request_streaming:
            unary = self._unary(method, handler.stream_unary, takes_stream=True)
            return grpc.stream_unary_rpc_method_handler(unary, **serializers)
        if handler.response_streaming:
            streaming = self._stream(method, handler.unary_stream, takes_stream=False)
            return grpc.unary_stream_rpc_method_handler(streaming, **serializers)
        unary = self._unary(method, handler.unary_unary, takes_stream=False)
        return grpc.unary_unary_rpc_method_handler(unary, **serializers)

    def _unary(
        self, method: Method, behaviour: Behaviour | None, *, takes_stream: bool
    ) -> Callable[[Any, Context], Awaitable[Message]]:
        assert behaviour is not None  # noqa: S101  # grpc sets the one that fits the kind

        async def serve(request: Any, context: Context) -> Message:
            visit = _Visit(self, method, context)
            try:
                async with asyncio.timeout_at(visit.call.deadline) if visit.bounded_here else _UNBOUNDED:
                    await visit.enter(None if takes_stream else request)
                    readable = ReadableRequests(request) if takes_stream else request
                    response: Message = await behaviour(readable, context)
            except BaseException as error:  # noqa: BLE001  # the edge: everything becomes a status
                await visit.fail(error)
            visit.succeed()
            return response

        return serve

    def _stream(
        self, method: Method, behaviour: Behaviour | None, *, takes_stream: bool
    ) -> Callable[[Any, Context], AsyncIterator[Message]]:
        assert behaviour is not None  # noqa: S101

        async def serve(request: Any, context: Context) -> AsyncIterator[Message]:
            visit = _Visit(self, method, context)
            try:
                await visit.enter(None if takes_stream else request)
                readable = ReadableRequests(request) if takes_stream else request
                # No default deadline here: some streams are meant to live for days. Others bound themselves.
                responses = behaviour(readable, context)
                try:
                    async for response in responses:
                        yield response
                finally:
                    # Not by the garbage collector: its last steps belong to the call.
                    await responses.aclose()
            except GeneratorExit:
                visit.leave(None, grpc.StatusCode.CANCELLED)
                raise
            except BaseException as error:  # noqa: BLE001
                await visit.fail(error)
            visit.succeed()

        return serve


class _Unbounded:
    async def __aenter__(self) -> None: ...

    async def __aexit__(self, *_: object) -> None: ...


_UNBOUNDED = _Unbounded()


class _Visit:
    """One call's way through the chain."""

    __slots__ = ("_chain", "_context", "_entered", "_span", "bounded_here", "call")

    def __init__(self, chain: Chain, method: Method, context: Context) -> None:
        if not chain.active:
            chain.idle.clear()
        chain.active += 1
        metadata = dict(context.invocation_metadata() or ())
        remaining = context.time_remaining()
        self.bounded_here = remaining is None
        # The loop's clock, without asking which loop runs: that is a system call.
        now = time.monotonic()
        header = metadata.get("traceparent", "")
        parent = parse_traceparent(header) if isinstance(header, str) and header else None
        place = chain.tracing.begin(parent)
        span: Span | None = None
        if place.sampled:
            span = chain.tracing.server_span(method.full_name[1:], place, is_root=parent is None)
        if span is not None:
            place = span.place
            current_span.set(span)
        self.call = Call(
            method=method,
            metadata=metadata,
            peer=context.peer(),
            deadline=now + (DEFAULT_DEADLINE_SECONDS if remaining is None else remaining),
            trace=place,
        )
        self._chain = chain
        self._context = context
        self._span = span
        self._entered = 0
        calls.enter(self.call)
        log_trace_id.set(place.trace_id)

    async def enter(self, request: Message | Unreadable | None) -> None:
        message = None if isinstance(request, Unreadable) else request
        call = self.call
        for interceptor in self._chain.interceptors:
            await interceptor.enter(call, message)
            self._entered += 1
        if isinstance(request, Unreadable):
            # Not before it is known who sent it: a stranger learns nothing of what is taken.
            raise request.error

    def succeed(self) -> None:
        if self.call.trailing_metadata:
            self._context.set_trailing_metadata(tuple(self.call.trailing_metadata))
        self.leave(None, grpc.StatusCode.OK)

    async def fail(self, error: BaseException) -> NoReturn:
        """Answer with the status that `error` means."""
        if isinstance(error, AppError):
            code = status.code_of(error)
            self.leave(error, code)
            trailers = (*self.call.trailing_metadata, (status.DETAILS_KEY, status.details_of(error)))
            await self._context.abort(code, status.text_of(error), trailers)
        if isinstance(error, TimeoutError) and self.bounded_here and self.call.remaining_seconds() <= 0:
            self.leave(error, grpc.StatusCode.DEADLINE_EXCEEDED)
            await self._context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the default deadline of 600 s passed")
        if isinstance(error, (asyncio.CancelledError, grpc.aio.AbortError)) or not isinstance(error, Exception):
            # A caller that left, or a status that the handler has set itself.
            self.leave(
                error,
                grpc.StatusCode.CANCELLED if isinstance(error, asyncio.CancelledError) else grpc.StatusCode.UNKNOWN,
            )
            raise error
        self.leave(error, grpc.StatusCode.INTERNAL)
        log.error(
            "an rpc fails with a bug",
            extra={"rpc": self.call.method.full_name, "error": type(error).__name__},
            exc_info=error,
        )
        await self._context.abort(grpc.StatusCode.INTERNAL, f"internal error; trace {self.call.trace.trace_id}")

    def leave(self, error: BaseException | None, code: grpc.StatusCode) -> None:
        call, chain, span = self.call, self._chain, self._span
        for place, interceptor in chain.leaving:
            if place < self._entered:
                interceptor.leave(call, error, code)
        if span is not None:
            span.set_attribute("rpc.system.name", "grpc")
            span.set_attribute("rpc.response.status_code", code.name)
            if error is not None and code is not grpc.StatusCode.CANCELLED:
                # The kind, not the text: a sentence may quote what a caller sent.
                span.fail(getattr(error, "reason", type(error).__name__))
            span.end()
        chain.active -= 1
        if not chain.active:
            chain.idle.set()
