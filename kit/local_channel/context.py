"""The servicer's side of a call: the `ServicerContext` that grpc's server would hand out."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final, NoReturn

import grpc

from kit.local_channel.codec import Codec
from kit.local_channel.metadata import Given, InvalidMetadata, MetadataTooLarge, deliver
from kit.local_channel.rpc import INVALID_METADATA, OK, Rpc, Status, delivered, metadata_too_large

log = logging.getLogger(__name__)

PEER: Final = "local:"

_ALREADY_FINISHED = "RPC already finished."
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}
_TRAILING_TYPE = "Tuple[Tuple[str, Union[str, bytes]]...]"


# The messages of a context are whatever the servicer's method says; one class serves all methods.
class LocalContext(grpc.aio.ServicerContext[Any, Any]):
    """What a servicer sees of its call, and the status it is about to give."""

    __slots__ = (
        "_abort_error",
        "_callbacks",
        "_code",
        "_details",
        "_given_code",
        "_responses",
        "_rpc",
        "_trailing",
        "_wrote",
    )

    def __init__(self, rpc: Rpc, responses: Codec) -> None:
        self._rpc = rpc
        self._responses = responses
        self._code = grpc.StatusCode.OK
        self._given_code: object = None
        self._details = ""
        self._trailing: tuple[tuple[str, str | bytes], ...] = ()
        self._abort_error: grpc.aio.AbortError | None = None
        self._wrote = False
        self._callbacks: list[Callable[[], object]] = []

    async def read(self) -> Any:
        self.raise_for_termination()
        message = await self._rpc.read_request()
        self.raise_for_termination()
        return message

    async def write(self, message: Any) -> None:
        self.raise_for_termination()
        responses = self._rpc.responses
        if responses is None:
            raise TypeError(f"Expected bytes, got {type(message).__name__}")
        carried, size_bytes = self._responses.carry(message)
        if not self._wrote:
            self._wrote = True
            self._rpc.send_initial_metadata(())
        if not await responses.put(carried, size_bytes):
            raise grpc.aio.InternalError("the caller is gone")

    async def send_initial_metadata(self, initial_metadata: Given) -> None:
        self.raise_for_termination()
        if self._wrote:
            raise grpc.aio.UsageError("Send initial metadata failed: already sent")
        try:
            pairs = deliver(initial_metadata)
        except InvalidMetadata as error:
            self._rpc.end(INVALID_METADATA)
            raise grpc.aio.InternalError(f"invalid metadata: {error}") from None
        except MetadataTooLarge as error:
            self._rpc.end(metadata_too_large(error))
            raise grpc.aio.InternalError(f"metadata too large: {error}") from None
        self._wrote = True
        self._rpc.send_initial_metadata(pairs)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Given = ()) -> NoReturn:
        _check_type("details", details, str)
        _check_type("trailing_metadata", trailing_metadata, tuple)
        if self._abort_error is not None:
            raise grpc.aio.UsageError("Abort already called!")
        actual = _code_of(code)
        if actual is grpc.StatusCode.OK:
            raise AssertionError("Expecting non-ok status code.")
        if trailing_metadata:
            self.set_trailing_metadata(trailing_metadata)
        self._details = details or self._details
        self._code, self._given_code = actual, code
        self._abort_error = grpc.aio.AbortError("Locally aborted.")
        self._answer(self._details)
        raise self._abort_error

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def set_trailing_metadata(self, trailing_metadata: Given) -> None:
        self._trailing = _checked_trailing(trailing_metadata)

    # grpc's server gives a tuple, whatever its type stubs say.
    def trailing_metadata(self) -> Any:
        return self._trailing

    def invocation_metadata(self) -> Any:
        return self._rpc.invocation_metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code, self._given_code = _code_of(code), code

    # None until a code is set, as grpc's server has it.
    def code(self) -> Any:
        return self._given_code

    def set_details(self, details: str) -> None:
        _check_type("details", details, str)
        self._details = details

    def details(self) -> str:
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Without effect: nothing is compressed here."""
        if self._wrote:
            raise RuntimeError("Compression setting must be specified before sending initial metadata")

    def disable_next_message_compression(self) -> None:
        """Without effect: nothing is compressed here."""

    def peer(self) -> str:
        return PEER

    def peer_identities(self) -> Iterable[bytes] | None:
        return None

    def peer_identity_key(self) -> str | None:
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {}

    # None without a deadline, as grpc's server has it.
    def time_remaining(self) -> Any:
        return self._rpc.time_remaining()

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._callbacks.append(partial(callback, self))

    def cancelled(self) -> bool:
        """Whether the servicer has set CANCELLED. A caller that left shows as `asyncio.CancelledError`, as in grpc."""
        return self._code is grpc.StatusCode.CANCELLED

    def done(self) -> bool:
        return self._rpc.answered

    def raise_for_termination(self) -> None:
        """Stop a servicer that suppressed its own abort, or uses the context after its end."""
        if self._abort_error is not None:
            raise self._abort_error
        if self._rpc.answered:
            raise grpc.aio.UsageError(_ALREADY_FINISHED)

    def finish(self, response: object = None) -> None:
        """The servicer has returned.

        :param response: of a method that gives one; dropped unless the status is OK
        """
        self.raise_for_termination()
        is_ok = self._code is grpc.StatusCode.OK
        carried = self._responses.carry(response)[0] if is_ok and self._rpc.responses is None else None
        self._answer(self._details, carried)

    def fail(self, error: BaseException) -> None:
        """The servicer has raised `error`."""
        if isinstance(error, grpc.aio.AbortError):
            if error is self._abort_error:
                return
            error = AssertionError("Abort error has been replaced!")
        log.error("a servicer raises", extra={"rpc": self._rpc.method, "error": type(error).__name__}, exc_info=error)
        if self._code is grpc.StatusCode.OK:
            self._code = grpc.StatusCode.UNKNOWN
        self._answer(f"Unexpected {type(error)}: {error}")

    def cancel(self) -> None:
        """The servicer has raised `asyncio.CancelledError`: the caller left, or it cancelled itself."""
        if self._rpc.status is None:
            self._code = grpc.StatusCode.CANCELLED
            self._answer("The servicer cancelled itself.")

    def close(self) -> None:
        """The servicer's task is about to return."""
        try:
            for callback in self._callbacks:
                callback()
        except Exception:
            log.exception("a done callback of a servicer raises", extra={"rpc": self._rpc.method})

    def _answer(self, details: str, response: object = None) -> None:
        code = self._code
        if code is grpc.StatusCode.OK and not (self._trailing or details):
            self._rpc.answer(OK, response)
            return
        trailing = delivered(self._trailing, details)
        if isinstance(trailing, Status):
            self._rpc.answer(trailing)
        else:
            self._rpc.answer(Status(code, "" if code is grpc.StatusCode.OK else details, trailing), response)


class Requests:
    """The requests of a stream, for servicers that iterate. Iterating again goes on where the last one stopped."""

    __slots__ = ("_context",)

    def __init__(self, context: LocalContext) -> None:
        self._context = context

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        message = await self._context.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message


def _code_of(code: object) -> grpc.StatusCode:
    if isinstance(code, grpc.StatusCode):
        return code
    return _BY_NUMBER.get(code, grpc.StatusCode.UNKNOWN) if isinstance(code, int) else grpc.StatusCode.UNKNOWN


def _check_type(name: str, value: object, expected: type) -> None:
    if value is not None and not isinstance(value, expected):
        raise TypeError(
            f"Argument '{name}' has incorrect type (expected {expected.__name__}, got {type(value).__name__})"
        )


def _checked_trailing(metadata: Given) -> tuple[tuple[str, str | bytes], ...]:
    wrong = TypeError(f"Invalid trailing metadata type, expected {_TRAILING_TYPE}: {metadata}")
    if not hasattr(metadata, "__iter__") or isinstance(metadata, dict):
        raise wrong
    pairs = tuple(metadata)
    for pair in pairs:
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise wrong
        if not isinstance(pair[0], str) or not isinstance(pair[1], (str, bytes)):
            raise wrong
    return pairs
