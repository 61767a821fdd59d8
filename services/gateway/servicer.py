"""The endpoints: HTTP in, a call by the generated stub, HTTP out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import unquote

import grpc
from multidict import CIMultiDictProxy

from catalog.keys import SEQUENCE_HEADER
from kit import status
from kit.abreast import Abreast
from kit.calls import Call, Method
from kit.errors import AppError, Deadline, Invalid, Unauthenticated, Unavailable, Violation
from kit.http_server.answer import JSON, Answer, Reply, Stream
from kit.interceptors import Auth
from kit.local_channel import CheckedMetadata
from services.gateway import domain
from services.gateway.application import Models
from services.gateway.convert import answer, failure, fields, request, stream
from services.gateway.listener import Visit
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.executor.v1 import execution_service_pb2_grpc as rpc

log = logging.getLogger(__name__)

MODELS_PATH: Final = "/v1/models"
MODELS_SCOPE: Final = "deployments:run"
"""Whoever may call a model may know that it is there."""

_PEER: Final = "executor"
_IDEMPOTENCY_KEY: Final = "Idempotency-Key"
_ONCE: Final = ("Authorization", "X-Api-Key", SEQUENCE_HEADER, _IDEMPOTENCY_KEY)
_MAX_FORWARDED: Final = 1024
_MODELS_SECONDS: Final = 10.0
_MAX_STRANGERS_BYTES: Final = 64 << 10
"""A longer body is parsed only for who has a key: it may take a second."""
_STREAM_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    # Proxies that collect an answer before they pass it on would make one piece of all.
    "X-Accel-Buffering": "no",
}


class ChatCompletions:
    """`POST /v1/chat/completions`.

    :param models: finds those that are asked for without a deployment
    :param call_timeout_seconds: bounds calls whose callers name no time-out, and streams as a whole
    :param unix_seconds: the time
    :param abreast: with whom whole answers are asked for and written together
    """

    def __init__(
        self,
        stub: rpc.ExecutionServiceAsyncStub,
        models: Models,
        auth: Auth,
        *,
        call_timeout_seconds: float,
        max_body_bytes: int,
        unix_seconds: Callable[[], float],
        abreast: Abreast,
    ) -> None:
        self._stub = stub
        self._models = models
        self._auth = auth
        self._call_timeout_seconds = call_timeout_seconds
        self._max_body_bytes = max_body_bytes
        self._unix_seconds = unix_seconds
        self._abreast = abreast
        self._outage = ""
        """The status with which the executor fails at present; empty while it answers."""

    async def create(self, visit: Visit) -> Reply:
        """Run a completion."""
        await self._abreast.line_up()
        headers = visit.request.headers
        given = await visit.body()
        tenant = await _tenant(self._auth, visit) if len(given) > _MAX_STRANGERS_BYTES else None
        asked = request.read(given, user_agent=headers.get("User-Agent", ""), max_bytes=self._max_body_bytes)
        metadata = CheckedMetadata.of({"traceparent": visit.place.traceparent(), **_forwarded(headers)})
        if asked.model:
            if tenant is None:
                tenant = await _tenant(self._auth, visit)
            request.make_direct(asked, self._models.find(tenant, asked.model, asked.provider))
        timeout = domain.timeout_seconds(headers)
        if key := headers.get(_IDEMPOTENCY_KEY):
            asked.run.idempotency_key = _idempotency_key(key, is_stream=asked.is_stream)
        if asked.is_stream:
            return await self._stream(visit, asked, metadata, timeout)
        step = self._abreast.step
        await step()
        try:
            response = await self._stub.Run(asked.run, metadata=metadata, timeout=timeout or self._call_timeout_seconds)
        except grpc.aio.AioRpcError as failed:
            raise self._error_of(failed, asked.run) from None
        self._answers()
        body = answer.completion(response, int(self._unix_seconds()))
        reply = Answer(200, {"Content-Type": JSON, **answer.headers(response)}, body)
        await step()
        return reply

    async def _stream(
        self, visit: Visit, asked: request.Asked, metadata: CheckedMetadata, timeout: float | None
    ) -> Stream:
        # The caller's time-out is how long it waits for a beginning; a stream that flows may take longer.
        whole = max(timeout or 0.0, self._call_timeout_seconds)
        call = self._stub.RunStream(pb.RunStreamRequest(run=asked.run), metadata=metadata, timeout=whole)
        try:
            started = await self._started(call, asked.run, timeout)
            events = stream.Events(
                started,
                created=int(self._unix_seconds()),
                wants_usage=asked.wants_usage,
                is_mocked=bool(asked.run.mock_response),
            )
            response = Stream({**_STREAM_HEADERS, **answer.headers(started)})
            await visit.begin(response, events.start())
            try:
                response.end(await self._pass_on(call, response, events, asked.run))
            except AppError as error:
                log.warning("a stream breaks", extra={"request_id": started.request_id, "reason": error.reason})
                await response.write(stream.failure(failure.failure_of(error).body))
                visit.cut()
            return response
        finally:
            # A caller who left, or an answer that is over: either way nobody reads on.
            call.cancel()

    async def _started(self, call: Any, run: pb.RunRequest, timeout: float | None) -> pb.RunStarted:
        """The first event: until it is there, a failure is a status of its own.

        :raises AppError: what the executor answered instead
        :raises Deadline: `DEADLINE_EXCEEDED` if it takes longer than `timeout` seconds
        """
        try:
            if timeout is None:
                event = await call.read()
            else:
                async with asyncio.timeout(timeout):
                    event = await call.read()
        except grpc.aio.AioRpcError as failed:
            raise self._error_of(failed, run) from None
        except TimeoutError:
            raise _deadline_passed() from None
        if event is grpc.aio.EOF or event.WhichOneof("event") != "started":
            raise _broken()
        self._answers()
        started: pb.RunStarted = event.started
        return started

    async def _pass_on(self, call: Any, response: Stream, events: stream.Events, run: pb.RunRequest) -> bytes:
        """Write what comes, as fast as the caller takes it; the last events are returned.

        :raises AppError: if the stream breaks
        """
        last = b""
        try:
            # To the very end: whoever stops at the last event cancels what the executor still does behind it.
            while (event := await call.read()) is not grpc.aio.EOF:
                kind = event.WhichOneof("event")
                if kind == "delta":
                    await response.write(events.delta(event.delta))
                elif kind == "ended":
                    last = events.end(event.ended)
        except grpc.aio.AioRpcError as failed:
            raise self._error_of(failed, run) from None
        if not last:
            raise _broken()
        return last

    def _error_of(self, failed: grpc.aio.AioRpcError, run: pb.RunRequest) -> AppError:
        error = status.from_rpc_error(failed, peer=_PEER)
        if not error.reason.startswith("PEER_"):
            return fields.in_callers_words(error, skipped=len(run.direct.messages))
        if isinstance(error, Deadline):
            return _deadline_passed()
        if self._outage != failed.code().name:
            # Once, not for every call of an outage.
            self._outage = failed.code().name
            log.warning("the executor fails", extra={"code": self._outage, "details": failed.details()})
        if isinstance(error, Unavailable):
            # The network's own words tell of addresses, which are not the caller's matter.
            return Unavailable("the executor cannot be reached, or failed; try again", reason=error.reason)
        return error

    def _answers(self) -> None:
        if self._outage:
            self._outage = ""
            log.info("the executor answers again")


class ModelList:
    """`GET /v1/models` and `GET /v1/models/{model}`."""

    def __init__(self, models: Models, auth: Auth) -> None:
        self._models = models
        self._auth = auth

    async def list_models(self, visit: Visit) -> Answer:
        """All that the caller's project has."""
        tenant = await _tenant(self._auth, visit)
        return _json(answer.models(self._models.list_models(tenant)))

    async def get_model(self, visit: Visit) -> Answer:
        """One."""
        tenant = await _tenant(self._auth, visit)
        return _json(answer.model(self._models.get_model(tenant, unquote(visit.path[len(MODELS_PATH) + 1 :]))))


class Health:
    """`GET /healthz` and `GET /readyz`.

    :param check_ready: raises an AppError while requests cannot be served
    """

    def __init__(self, check_ready: Callable[[], None]) -> None:
        self._check_ready = check_ready

    async def live(self, visit: Visit) -> Answer:
        """Whether the process answers at all."""
        return _json(b'{"status":"ok"}')

    async def ready(self, visit: Visit) -> Answer:
        """Whether requests should be sent here."""
        try:
            self._check_ready()
        except AppError as error:
            failed = failure.failure_of(error)
            return Answer(failed.status, {"Content-Type": JSON}, failed.body)
        return _json(b'{"status":"ok"}')


async def _tenant(auth: Auth, visit: Visit) -> str:
    """The project of the caller's key, checked against the local catalog; empty for a platform key."""
    call = Call(
        method=Method(MODELS_PATH, MODELS_SCOPE),
        metadata=_forwarded(visit.request.headers),
        peer="",
        deadline=asyncio.get_running_loop().time() + _MODELS_SECONDS,
        trace=visit.place,
    )
    await auth.enter(call, None)
    return call.principal.tenant if call.principal is not None else ""


def _idempotency_key(key: str, *, is_stream: bool) -> str:
    if is_stream:
        raise Invalid(
            f"the header {_IDEMPOTENCY_KEY} is for whole answers: the pieces of a stream are not kept; leave it out",
            reason="IDEMPOTENCY_KEY_OF_STREAM",
            violations=(Violation(_IDEMPOTENCY_KEY, "must be left out of a stream"),),
        )
    if not _is_plain(key):
        raise Invalid(
            f"the header {_IDEMPOTENCY_KEY} must be printable ASCII, at most 256 characters",
            reason="IDEMPOTENCY_KEY_MALFORMED",
            violations=(Violation(_IDEMPOTENCY_KEY, "must be printable ASCII, at most 256 characters"),),
        )
    return key


def _forwarded(headers: CIMultiDictProxy[str]) -> dict[str, str]:
    """What of a caller's headers a call carries on: its key, and how new a state it must be served from.

    All of it is printable ASCII, and little enough for metadata.
    """
    if len(set(map(str.lower, headers))) != len(headers):
        _refuse_repeated(headers)
    found: dict[str, str] = {}
    if (authorization := headers.get("Authorization")) and authorization[:7].lower() == "bearer ":
        found["authorization"] = authorization
    if key := headers.get("X-Api-Key"):
        found["x-api-key"] = key
    if sequence := headers.get(SEQUENCE_HEADER):
        found[SEQUENCE_HEADER] = sequence
    if not _is_plain("".join(found.values())):
        _refuse_malformed(found)
    return found


def _refuse_repeated(headers: CIMultiDictProxy[str]) -> None:
    for name in _ONCE:
        if len(headers.getall(name, ())) > 1:
            # Whoever stands between might read the other one.
            raise Invalid(f"the header {name} must be given once only", reason="HEADER_REPEATED")


def _refuse_malformed(found: dict[str, str]) -> None:
    """Nothing is, if they are too long only together."""
    for name, value in found.items():
        if _is_plain(value):
            continue
        if name == SEQUENCE_HEADER:
            raise Invalid(f"the header {SEQUENCE_HEADER} must be a number", reason="SEQUENCE_MALFORMED")
        raise Unauthenticated("this is not a Turnout key: check that it was copied whole", reason="KEY_MALFORMED")


def _is_plain(value: str) -> bool:
    return value.isascii() and value.isprintable() and len(value) <= _MAX_FORWARDED


def _deadline_passed() -> Deadline:
    return Deadline("the time that the caller allows has passed; allow more", reason="DEADLINE_EXCEEDED")


def _broken() -> Unavailable:
    return Unavailable("the answer ended before it was whole", reason="STREAM_BROKEN")


def _json(body: bytes) -> Answer:
    return Answer(200, {"Content-Type": JSON}, body)
