"""OpenAI's chat completions, which most servers of models offer: `POST {base_url}/chat/completions`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

import orjson
from opentelemetry.trace import Span, SpanKind, StatusCode

from catalog.view import ProviderKind
from completions.chat import ImagePart, Message, Part, Role, TextPart
from completions.version import Version
from kit.egress import Egress, EgressResponse, Timeouts
from kit.errors import AppError
from kit.json import Json
from kit.telemetry import Tracing, place_of
from services.executor.domain import (
    Delta,
    ProviderAnswer,
    ProviderFailure,
    ProviderRequest,
    Reason,
    Started,
    ToolCallDelta,
)
from services.executor.providers import openai_answer
from services.executor.providers.openai_answer import Malformed, malformed
from services.executor.providers.openai_stream import Assembly
from services.executor.providers.sse import Events, TooLarge

_CONNECT_SECONDS: Final = 10.0
_OURS: Final = frozenset(("model", "messages", "stream", "stream_options"))
"""Members of a request that a version's extra parameters may not set: the answer would not be one that can be read."""
_STREAMED: Final = b',"stream":true,"stream_options":{"include_usage":true}}'


@dataclass(frozen=True, slots=True)
class OpenAi:
    """The adapter.

    :param retry_statuses: HTTP statuses after which an attempt may be repeated
    :param max_response_bytes: of a whole answer's body, and of one event of a streamed one
    :param max_stream_bytes: of a streamed answer's body
    """

    egress: Egress
    tracing: Tracing
    retry_statuses: frozenset[int]
    max_response_bytes: int
    max_stream_bytes: int

    def prepare(self, version: Version, kind: ProviderKind) -> bytes:
        """The body of a request up to its messages."""
        given, is_openai = version.parameters, kind is ProviderKind.OPENAI
        fields: dict[str, Json] = {
            "temperature": given.temperature,
            "top_p": given.top_p,
            "top_k": given.top_k,
            # OpenAI's newer models refuse the old word; other servers know only that one.
            "max_completion_tokens" if is_openai else "max_tokens": given.max_output_tokens,
            "presence_penalty": given.presence_penalty,
            "frequency_penalty": given.frequency_penalty,
            "stop": list(given.stop) or None,
            "seed": given.seed,
            "parallel_tool_calls": given.parallel_tool_calls,
            "reasoning_effort": given.reasoning_effort,
            "tools": version.tools or None,
            "tool_choice": version.tool_choice,
            "response_format": version.response_format,
        }
        body: dict[str, Json] = {"model": version.model}
        body.update((name, value) for name, value in fields.items() if value is not None)
        body.update((name, value) for name, value in given.extra.items() if name not in _OURS)
        return orjson.dumps(body)[:-1] + b',"messages":'

    async def complete(self, request: ProviderRequest, timeout_seconds: float) -> ProviderAnswer | ProviderFailure:
        """As the port says. Beyond the statuses that may be repeated, an answer that makes no sense is, too."""
        body = b"".join((request.prepared_body, _messages(request), b"}"))
        headers = _headers(request, "application/json")
        with self.tracing.span("chat " + request.model, SpanKind.CLIENT, _attributes(request)) as span:
            if not span.is_recording():
                return await self._exchange(request, headers, body, timeout_seconds)
            headers["traceparent"] = place_of(span).traceparent()
            outcome = await self._exchange(request, headers, body, timeout_seconds)
            _describe(span, outcome)
            return outcome

    async def stream(
        self, request: ProviderRequest, *, total_seconds: float, silence_seconds: float
    ) -> AsyncGenerator[Started | Delta | ProviderAnswer | ProviderFailure, None]:
        """As the port says. A server that answers whole although it was asked for pieces is taken as it is."""
        body = b"".join((request.prepared_body, _messages(request), _STREAMED))
        headers = _headers(request, "text/event-stream")
        # Detached: a caller who leaves closes this from another task.
        with self.tracing.detached_span("chat " + request.model, SpanKind.CLIENT, _attributes(request)) as span:
            if span.is_recording():
                headers["traceparent"] = place_of(span).traceparent()
            timeout = Timeouts(
                total_seconds=total_seconds,
                connect_seconds=min(silence_seconds, _CONNECT_SECONDS),
                first_byte_seconds=silence_seconds,
                idle_seconds=silence_seconds,
            )
            async with aclosing(self._pieces(request, headers, body, timeout)) as pieces:
                async for piece in pieces:
                    # Before the last is given: whoever has it asks for no more.
                    if span.is_recording() and isinstance(piece, (ProviderAnswer, ProviderFailure)):
                        _describe(span, piece)
                    yield piece

    async def _pieces(
        self, request: ProviderRequest, headers: dict[str, str], body: bytes, timeout: Timeouts
    ) -> AsyncGenerator[Started | Delta | ProviderAnswer | ProviderFailure, None]:
        url = request.provider.base_url.rstrip("/") + "/chat/completions"
        assembly, events, has_begun = Assembly(request), Events(), False
        status = 0
        try:
            async with self.egress.stream(
                "POST", url, headers=headers, body=body, timeout=timeout, max_response_bytes=self.max_stream_bytes
            ) as answer:
                status = answer.status
                if status != 200 or "event-stream" not in answer.headers.get("Content-Type", ""):
                    whole = EgressResponse(status, answer.headers, await answer.read())
                    self._check_size(whole.body)
                    for piece in self._whole(request, whole):
                        yield piece
                    return
                async for chunk in answer:
                    for data in events.feed(chunk):
                        self._check_size(data)
                        if (delta := assembly.take(data)) is not None:
                            if not has_begun:
                                has_begun = True
                                yield Started(assembly.model)
                            yield delta
                    if assembly.is_done:
                        break
                for data in events.end():
                    if (delta := assembly.take(data)) is not None:
                        yield delta
            end = assembly.end(status)
            if isinstance(end, ProviderAnswer) and not has_begun:
                yield Started(assembly.model)
            yield end
        except AppError as error:
            yield replace(_failure_of_egress(error), http_status=status)
        except Malformed as problem:
            yield malformed(str(problem), status)
        except TooLarge:
            yield malformed("has an event that does not end", status)

    def _check_size(self, data: bytes) -> None:
        if len(data) > self.max_response_bytes:
            raise Malformed(f"has a piece of more than {self.max_response_bytes} bytes")

    def _whole(
        self, request: ProviderRequest, response: EgressResponse
    ) -> Iterator[Started | Delta | ProviderAnswer | ProviderFailure]:
        if response.status != 200:
            yield openai_answer.read_failure(response, request, self.retry_statuses, unix_seconds=time.time())
            return
        outcome = openai_answer.read(response, request)
        if isinstance(outcome, ProviderAnswer):
            message = outcome.message
            yield Started(outcome.model)
            content = message.content or "".join(part.text for part in message.parts if isinstance(part, TextPart))
            calls = tuple(
                ToolCallDelta(index, call.id, call.name, call.arguments_json)
                for index, call in enumerate(message.tool_calls)
            )
            if content or message.reasoning or calls:
                yield Delta(content, message.reasoning, calls)
        yield outcome

    async def _exchange(
        self, request: ProviderRequest, headers: dict[str, str], body: bytes, timeout_seconds: float
    ) -> ProviderAnswer | ProviderFailure:
        try:
            response = await self.egress.request(
                "POST",
                request.provider.base_url.rstrip("/") + "/chat/completions",
                headers=headers,
                body=body,
                timeout=Timeouts(
                    total_seconds=timeout_seconds,
                    connect_seconds=min(timeout_seconds, _CONNECT_SECONDS),
                    first_byte_seconds=timeout_seconds,
                ),
                max_response_bytes=self.max_response_bytes,
            )
        except AppError as error:
            return _failure_of_egress(error)
        if response.status == 200:
            return openai_answer.read(response, request)
        return openai_answer.read_failure(response, request, self.retry_statuses, unix_seconds=time.time())


def _messages(request: ProviderRequest) -> bytes:
    # OpenAI refuses members it does not know; servers of reasoning models want theirs back.
    returns_reasoning = request.provider.kind is not ProviderKind.OPENAI
    return orjson.dumps([_message(message, returns_reasoning=returns_reasoning) for message in request.messages])


def _headers(request: ProviderRequest, accept: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": accept}
    if request.credential is not None:
        headers["Authorization"] = f"Bearer {request.credential.reveal()}"
    return headers


def _attributes(request: ProviderRequest) -> dict[str, str]:
    provider = request.provider
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai" if provider.kind is ProviderKind.OPENAI else provider.slug,
        "gen_ai.request.model": request.model,
    }


def _message(message: Message, *, returns_reasoning: bool) -> dict[str, object]:
    said: dict[str, object] = {"role": message.role}
    if message.parts:
        said["content"] = _parts(message.parts)
    elif message.content or message.role is not Role.ASSISTANT:
        said["content"] = message.content
    else:
        said["content"] = None if message.tool_calls else ""
    if message.name:
        said["name"] = message.name
    if message.tool_calls:
        said["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_json}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        said["tool_call_id"] = message.tool_call_id
    if message.reasoning and returns_reasoning:
        said["reasoning_content"] = message.reasoning
    return said


def _parts(parts: Sequence[Part]) -> list[dict[str, object]]:
    said: list[dict[str, object]] = []
    for part in parts:
        if isinstance(part, ImagePart):
            image = {"url": part.url, "detail": part.detail} if part.detail else {"url": part.url}
            said.append({"type": "image_url", "image_url": image})
        else:
            said.append({"type": "text", "text": part.text})
    return said


def _failure_of_egress(error: AppError) -> ProviderFailure:
    match error.reason:
        case "EGRESS_TIMEOUT":
            return ProviderFailure(Reason.TIMEOUT, error.message, 0, is_retryable=True)
        case "EGRESS_CONNECTION_FAILED" | "EGRESS_NAME_UNRESOLVED":
            return ProviderFailure(Reason.UNREACHABLE, error.message, 0, is_retryable=True)
        case "EGRESS_MALFORMED_RESPONSE" | "EGRESS_RESPONSE_TOO_LARGE":
            return ProviderFailure(Reason.MALFORMED_RESPONSE, error.message, 0, is_retryable=True)
        case "EGRESS_REQUEST_INVALID":
            # Nothing but the credential in the headers comes from outside.
            return ProviderFailure(
                Reason.CREDENTIAL_REFUSED, "the credential cannot be sent in an HTTP header", 0, is_retryable=False
            )
    return ProviderFailure(Reason.ADDRESS_REFUSED, error.message, 0, is_retryable=False)


def _describe(span: Span, outcome: ProviderAnswer | ProviderFailure) -> None:
    if outcome.http_status:
        span.set_attribute("http.response.status_code", outcome.http_status)
    if isinstance(outcome, ProviderFailure):
        span.set_attribute("error.type", outcome.reason.value)
        span.set_status(StatusCode.ERROR)
        return
    span.set_attribute("gen_ai.response.model", outcome.model)
    if outcome.finish_reason is not None:
        span.set_attribute("gen_ai.response.finish_reasons", (outcome.finish_reason.value,))
    if outcome.usage.input_tokens is not None:
        span.set_attribute("gen_ai.usage.input_tokens", outcome.usage.input_tokens)
    if outcome.usage.output_tokens is not None:
        span.set_attribute("gen_ai.usage.output_tokens", outcome.usage.output_tokens)
