"""Bytes from the network become requests. What cannot be one is refused as any request is: to whom may call, with a
reason, by the chain; grpc itself would answer UNKNOWN, or RESOURCE_EXHAUSTED without a word of ours.

Only the network needs this: the local channel carries messages.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from kit.errors import AppError, Invalid, Violation
from kit.interceptors.text_faults import path_of_bad_text

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands in the place of a request that cannot be read."""

    error: AppError


class ReadableRequests:
    """A client's stream, which fails at the first message that cannot be read."""

    __slots__ = ("_messages",)

    def __init__(self, messages: AsyncIterable[Any]) -> None:
        self._messages = aiter(messages)

    def __aiter__(self) -> ReadableRequests:
        return self

    async def __anext__(self) -> Any:
        message = await anext(self._messages)
        if isinstance(message, Unreadable):
            raise message.error
        return message


def from_network(handler: Handler, max_bytes: int) -> Handler:
    """The same handler, whose deserialiser never raises.

    :param max_bytes: of a request; of a client stream, of one message
    """
    deserialize = handler.request_deserializer
    if deserialize is None:
        return handler
    reading: Handler = handler._replace(  # type: ignore[attr-defined]  # a named tuple, says grpc's code, not its types
        request_deserializer=_reader(deserialize, max_bytes)
    )
    return reading


def _reader(deserialize: Callable[[bytes], Any], max_bytes: int) -> Callable[[bytes], Any]:
    # Generated code gives the class method of a message.
    descriptor = getattr(getattr(deserialize, "__self__", None), "DESCRIPTOR", None)
    name = "request" if descriptor is None else str(descriptor.full_name)

    def read(data: bytes) -> Any:
        if len(data) > max_bytes:
            return Unreadable(_too_large(len(data), max_bytes))
        try:
            return deserialize(data)
        except Exception:  # noqa: BLE001  # whatever a parser raises: these bytes are no request
            path = "" if descriptor is None else path_of_bad_text(data, descriptor)
            return Unreadable(_not_utf8(name, path) if path else _unreadable(name))

    return read


def _too_large(size_bytes: int, max_bytes: int) -> Invalid:
    return Invalid(
        f"the request has {size_bytes} bytes, more than the {max_bytes} that are taken: send less at once",
        reason="REQUEST_TOO_LARGE",
        size_bytes=str(size_bytes),
        max_bytes=str(max_bytes),
    )


def _not_utf8(name: str, path: str) -> Invalid:
    problem = Violation(path, "must be text in UTF-8")
    return Invalid(
        f"these bytes are no {name}: {path} {problem.message}",
        reason="REQUEST_UNREADABLE",
        violations=(problem,),
        message_type=name,
    )


def _unreadable(name: str) -> Invalid:
    return Invalid(
        f"these bytes are no {name}: generate the client from the contract of this version",
        reason="REQUEST_UNREADABLE",
        message_type=name,
    )
