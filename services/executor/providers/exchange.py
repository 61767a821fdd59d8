"""One exchange with a provider of any contract: HTTP, its failures, its span, and the pieces of a stream."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import ClassVar, Final, Protocol, TypeAlias

from opentelemetry.trace import SpanKind

from catalog.view import ProviderKind
from completions.version import Version
from kit import calls, values
from kit.abreast import Abreast
from kit.egress import Egress, EgressResponse, EgressStream, Timeouts
from kit.errors import AppError, Invalid
from kit.telemetry import Tracing
from services.attempts import provider_name
from services.executor.domain import (
    Delta,
    Outgoing,
    ProviderAnswer,
    ProviderFailure,
    ProviderRequest,
    Reason,
    Started,
    ToolCallDelta,
)
from services.executor.providers import spans
from services.executor.providers.answers import Malformed
from services.executor.providers.failures import Told, failure_of_egress, malformed, read_failure
from services.executor.providers.sse import TooLarge

Piece: TypeAlias = Started | Delta | ProviderAnswer | ProviderFailure

_CONNECT_SECONDS: Final = 10.0
_LAST_WORDS_SECONDS: Final = 5.0
"""How long a model that has finished may stay silent before its answer counts as whole: counts come in that time."""


class Framing(Protocol):
    """Cuts what comes in into events."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Every event that is complete now.

        :raises TooLarge: if one is larger than `Exchange.max_response_bytes`
        """
        ...

    def end(self) -> Iterator[bytes]:
        """What is left when nothing more comes.

        :raises TooLarge: as :meth:`feed`
        """
        ...


class Assembly(Protocol):
    """What has come of a streamed answer so far."""

    model: str
    """What answers, in the provider's words once it has said so."""
    is_finished: bool
    """Whether the model has said all; counts and the provider's mark may still come."""
    is_done: bool
    """Whether the provider said that this was all."""

    def take(self, data: bytes) -> Delta | None:
        """What one event adds; None if it adds nothing to say.

        :raises Malformed: if it makes no sense
        :raises Told: if it tells of a failure
        """
        ...

    def end(self, http_status: int) -> ProviderAnswer:
        """The whole answer when nothing more comes.

        :raises Malformed: if it was not whole
        """
        ...


@dataclass(frozen=True, slots=True)
class Exchange(ABC):
    """The Provider port but for what a contract's own adapter says.

    :param retry_statuses: HTTP statuses after which an attempt may be repeated, if the request does not say
    :param max_response_bytes: of a whole answer's body, and of one event of a streamed one
    :param max_stream_bytes: of a streamed answer's body
    :param abreast: that of the calls, which ask together and read whole answers together; without it they do not
    """

    egress: Egress
    tracing: Tracing
    retry_statuses: frozenset[int]
    max_response_bytes: int
    max_stream_bytes: int
    abreast: Abreast = field(default_factory=Abreast)

    stream_type: ClassVar[str] = "text/event-stream"
    """The media type of a streamed answer."""

    @abstractmethod
    def prepare(self, version: Version, kind: ProviderKind) -> bytes:
        """As the port says.

        :raises Invalid: for what this contract has no word for and may not be left out
        """

    def answer_tokens(self, version: Version) -> int:
        """As the port says."""
        given = version.parameters
        told = (given.extra.get("max_completion_tokens"), given.extra.get("max_tokens"), given.max_output_tokens)
        return next((each for each in told if isinstance(each, int) and each > 0), 0)

    @abstractmethod
    def request_of(self, request: ProviderRequest, *, streamed: bool) -> Outgoing:
        """The HTTP request that `complete`, or `stream`, sends, but for its headers: they hold the credential.

        :raises Invalid: `PROVIDER_REJECTED_REQUEST` for messages that this contract cannot carry
        """

    def headers(self, request: ProviderRequest, accept: str) -> dict[str, str]:
        """The headers, the credential among them."""
        headers = {"Content-Type": "application/json", "Accept": accept}
        if request.credential is not None:
            headers["Authorization"] = f"Bearer {request.credential.reveal()}"
        return headers

    @abstractmethod
    def read(self, response: EgressResponse, request: ProviderRequest) -> ProviderAnswer:
        """A whole answer with status 200.

        :raises Malformed: if it makes no sense
        :raises Told: if it tells of a failure
        """

    @abstractmethod
    def assembly(self, request: ProviderRequest) -> Assembly:
        """What puts a streamed answer together."""

    @abstractmethod
    def framing(self) -> Framing:
        """What cuts a streamed answer into events."""

    def statuses_of(self, request: ProviderRequest) -> frozenset[int]:
        """HTTP statuses after which this attempt may be repeated."""
        return request.retry_statuses or self.retry_statuses

    def outcome(self, response: EgressResponse, request: ProviderRequest) -> ProviderAnswer | ProviderFailure:
        """What a whole answer with any status means."""
        status = response.status
        if status != 200:
            return read_failure(response, request, self.statuses_of(request), unix_seconds=time.time())
        try:
            return self.read(response, request)
        except Malformed as problem:
            return malformed(str(problem), status)
        except Told as told:
            return told.failure

    async def complete(self, request: ProviderRequest, timeout_seconds: float) -> ProviderAnswer | ProviderFailure:
        """As the port says. Beyond the statuses that may be repeated, an answer that makes no sense is, too."""
        try:
            outgoing = self.request_of(request, streamed=False)
        except Invalid as refusal:
            return _unsayable(refusal)
        headers = self.headers(request, "application/json")
        if not self.tracing.is_sampled:
            return await self._exchange(request, outgoing, headers, timeout_seconds)
        # The attempt's own time may be up earlier, but that ends it from within.
        call = calls.current_or_none()
        until = time.monotonic() + timeout_seconds if call is None else call.deadline
        with self.tracing.span("chat " + request.model, SpanKind.CLIENT, self._attributes(request)) as span:
            headers["traceparent"] = span.place.traceparent()
            try:
                outcome = await self._exchange(request, outgoing, headers, timeout_seconds)
            except asyncio.CancelledError:
                spans.describe_left(span, until - time.monotonic())
                raise
            spans.describe(span, outcome)
            return outcome

    def stream(
        self, request: ProviderRequest, *, total_seconds: float, first_seconds: float, idle_seconds: float
    ) -> AsyncGenerator[Piece, None]:
        """As the port says. A server that answers whole although it was asked for pieces is taken as it is."""
        try:
            outgoing = self.request_of(request, streamed=True)
        except Invalid as refusal:
            return _alone(_unsayable(refusal))
        timeout = Timeouts(
            total_seconds=total_seconds,
            connect_seconds=min(first_seconds, _CONNECT_SECONDS),
            first_byte_seconds=first_seconds,
            # Only the larger: the shorter is watched here, where pieces are told from bytes that say nothing yet; and
            # from the first of these on, so is the larger.
            idle_seconds=max(first_seconds, idle_seconds),
        )
        headers = self.headers(request, self.stream_type)
        if self.tracing.is_sampled:
            return self._traced(request, outgoing, headers, timeout, idle_seconds)
        return self._pieces(request, outgoing, headers, timeout, idle_seconds)

    async def _traced(
        self,
        request: ProviderRequest,
        outgoing: Outgoing,
        headers: dict[str, str],
        timeout: Timeouts,
        idle_seconds: float,
    ) -> AsyncGenerator[Piece, None]:
        until = time.monotonic() + timeout.total_seconds
        with self.tracing.span("chat " + request.model, SpanKind.CLIENT, self._attributes(request)) as span:
            headers["traceparent"] = span.place.traceparent()
            try:
                async with aclosing(self._pieces(request, outgoing, headers, timeout, idle_seconds)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, (ProviderAnswer, ProviderFailure)):
                            spans.describe(span, piece)
                            break
                        yield piece
            except (GeneratorExit, asyncio.CancelledError):
                spans.describe_left(span, until - time.monotonic())
                raise
        # Behind the span: whoever has the last piece asks for no more, and closes this.
        yield piece

    async def _pieces(
        self,
        request: ProviderRequest,
        outgoing: Outgoing,
        headers: dict[str, str],
        timeout: Timeouts,
        idle_seconds: float,
    ) -> AsyncGenerator[Piece, None]:
        assembly, framing, clock = self.assembly(request), self.framing(), asyncio.get_running_loop().time
        has_begun = has_finished = has_ended = False
        method, url, body = outgoing
        status, begun = 0, clock()
        said = begun
        limit: float | None = timeout.first_byte_seconds
        deadline: float | None = begun + timeout.first_byte_seconds
        try:
            async with self.egress.stream(
                method,
                url,
                headers=headers,
                body=body,
                timeout=timeout,
                max_response_bytes=self.max_stream_bytes,
                # A completion changes nothing.
                is_repeatable=True,
            ) as answer:
                status = answer.status
                if status != 200 or self.stream_type not in answer.headers.get("Content-Type", "").lower():
                    async with asyncio.timeout_at(deadline):
                        whole = EgressResponse(status, answer.headers, await self._body(answer))
                    for piece in _pieces_of(self.outcome(whole, request)):
                        yield piece
                    return
                while True:
                    # Here and not in a function: this runs for every token.
                    try:
                        if deadline is None or answer.is_ready:
                            chunk = await anext(answer)
                        else:
                            async with asyncio.timeout_at(deadline):
                                chunk = await anext(answer)
                    except StopAsyncIteration:
                        has_ended = True
                        break
                    except (TimeoutError, AppError):
                        if not assembly.is_finished:
                            raise
                        # However it ends, everything was said.
                        break
                    delta, says = None, False
                    for data in framing.feed(chunk):
                        if (delta := assembly.take(data)) is not None:
                            says = True
                            if not has_begun:
                                has_begun = True
                                limit = idle_seconds if idle_seconds < timeout.first_byte_seconds else None
                                yield Started(assembly.model)
                            yield delta
                        elif assembly.is_done:
                            # What follows is nobody's.
                            break
                    if assembly.is_done:
                        break
                    if assembly.is_finished:
                        # Once, and again only if there is more: signs of life need not end.
                        if delta is not None or not has_finished:
                            has_finished, now = True, clock()
                            deadline = now + min(_LAST_WORDS_SECONDS, (begun + timeout.total_seconds - now) / 2)
                    elif says:
                        said = clock()
                        deadline = None if limit is None else said + limit
                    elif has_begun:
                        # Signs of life are no pieces, and to those who wait for bytes they look like some.
                        limit, deadline = idle_seconds, said + idle_seconds
                if has_ended:
                    for data in framing.end():
                        if (delta := assembly.take(data)) is not None:
                            if not has_begun:
                                has_begun = True
                                yield Started(assembly.model)
                            yield delta
                if assembly.is_done:
                    answer.finish()
            end = assembly.end(status)
            if not has_begun:
                yield Started(assembly.model)
            yield end
        except AppError as error:
            yield values.replace(failure_of_egress(error), http_status=status)
        except Malformed as problem:
            yield malformed(str(problem), status)
        except Told as told:
            yield told.failure
        except TooLarge:
            yield malformed(f"has a piece of more than {self.max_response_bytes} bytes", status)
        except TimeoutError:
            what = "went on" if has_begun else "began"
            message = f"no answer {what} within {limit:g} s"
            yield ProviderFailure(Reason.TIMEOUT, message, status, is_retryable=True)

    async def _body(self, answer: EgressStream) -> bytes:
        """As much as an answer that was asked for whole may have: what a stream may have is far more."""
        chunks, size = [], 0
        async for chunk in answer:
            size += len(chunk)
            if size > self.max_response_bytes:
                raise TooLarge
            chunks.append(chunk)
        return b"".join(chunks)

    async def _exchange(
        self, request: ProviderRequest, outgoing: Outgoing, headers: dict[str, str], timeout_seconds: float
    ) -> ProviderAnswer | ProviderFailure:
        method, url, body = outgoing
        await self.abreast.step()
        try:
            response = await self.egress.request(
                method,
                url,
                headers=headers,
                body=body,
                timeout=Timeouts(
                    total_seconds=timeout_seconds,
                    connect_seconds=min(timeout_seconds, _CONNECT_SECONDS),
                    first_byte_seconds=timeout_seconds,
                ),
                max_response_bytes=self.max_response_bytes,
                is_repeatable=True,
            )
        except AppError as error:
            return failure_of_egress(error)
        await self.abreast.line_up()
        return self.outcome(response, request)

    def _attributes(self, request: ProviderRequest) -> dict[str, str]:
        provider = request.provider
        return {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": provider_name(provider.kind, provider.slug),
            "gen_ai.request.model": request.model,
            "turnout.provider": provider.slug,
        }


async def _alone(failure: ProviderFailure) -> AsyncGenerator[Piece, None]:
    yield failure


def unsayable(problem: str) -> Invalid:
    """Messages that a contract cannot carry.

    :param problem: a sentence that says what to do
    """
    return Invalid(problem, reason=Reason.REJECTED_REQUEST.value)


def _pieces_of(outcome: ProviderAnswer | ProviderFailure) -> Iterator[Piece]:
    if isinstance(outcome, ProviderAnswer):
        message = outcome.message
        yield Started(outcome.model)
        content = message.text
        calls = tuple(
            ToolCallDelta(index, call.id, call.name, call.arguments_json, call.extra_content_json)
            for index, call in enumerate(message.tool_calls)
        )
        if content or message.reasoning or calls:
            yield Delta(content, message.reasoning, calls)
    yield outcome


def _unsayable(refusal: Invalid) -> ProviderFailure:
    return ProviderFailure(Reason.REJECTED_REQUEST, refusal.message, 0, is_retryable=False)
