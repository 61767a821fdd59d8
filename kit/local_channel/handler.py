"""Running a servicer's method for one call, with the outcomes that grpc's server gives."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from kit.local_channel.codec import Codec, Deserializer, Serializer
from kit.local_channel.context import LocalContext, Requests
from kit.local_channel.rpc import Rpc

# Generic for type checkers only: the class cannot be subscripted when it runs.
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass(frozen=True, slots=True)
class Route:
    """How calls of one stub's method reach one handler."""

    handler: Handler
    behaviour: Callable[..., Any]
    is_generator: bool
    requests: Codec
    responses: Codec

    async def serve(self, rpc: Rpc, request: Any) -> None:
        """Run the servicer to its end and give its status; never raises, save for what ends the process.

        :param request: the request of a method that takes one; ignored if it takes a stream
        """
        rpc.is_started = True
        context = LocalContext(rpc, self.responses)
        if rpc.requests is not None:
            request = Requests(context)
        try:
            if rpc.responses is None:
                context.finish(await self.behaviour(request, context))
            else:
                await self._stream(request, context)
                context.finish()
        except asyncio.CancelledError:
            context.cancel()
        except Exception as error:  # noqa: BLE001  # the edge: everything becomes a status
            context.fail(error)
        except (KeyboardInterrupt, SystemExit) as error:
            context.fail(error)
            raise
        finally:
            context.close()
            rpc.served()

    async def _stream(self, request: Any, context: LocalContext) -> None:
        if not self.is_generator:
            await self.behaviour(request, context)
            return
        responses = self.behaviour(request, context)
        try:
            async for response in responses:
                await context.write(response)
        finally:
            await responses.aclose()


def route(
    handler: Handler,
    *,
    request_serializer: Serializer | None,
    response_deserializer: Deserializer | None,
    max_message_bytes: int,
) -> Route:
    """The way from a stub's method to a handler of the same kind.

    :raises TypeError: if the handler is not async
    """
    behaviour: Callable[..., Any] | None
    if handler.request_streaming:
        behaviour = handler.stream_stream if handler.response_streaming else handler.stream_unary
    else:
        behaviour = handler.unary_stream if handler.response_streaming else handler.unary_unary
    is_generator = handler.response_streaming and inspect.isasyncgenfunction(behaviour)
    if behaviour is None or not (is_generator or inspect.iscoroutinefunction(behaviour)):
        raise TypeError(f"the local channel serves async methods only, not {behaviour!r}")
    return Route(
        handler=handler,
        behaviour=behaviour,
        is_generator=is_generator,
        requests=Codec(request_serializer, handler.request_deserializer, max_message_bytes),
        responses=Codec(handler.response_serializer, response_deserializer, max_message_bytes),
    )
