from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from catalog.view import ProviderKind
from kit.egress import Egress, EgressPolicy
from kit.telemetry import Span, Tracing
from services.executor.domain import DEADLINE_LEAD_SECONDS, Delta, ProviderAnswer, ProviderFailure, Started
from services.executor.providers.openai import OpenAi
from services.executor.providers.spans import describe_left
from tests.served import under
from tests.services.executor.providers.wires import RETRY_STATUSES, asked, version


class Traced:
    """An adapter under a sampled call's span, and the one span that its attempt leaves."""

    def __init__(self, egress: Egress, upstream: Any) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(sample_ratio=1, resource={}, exporter=self.exporter)
        self.upstream = upstream
        self.adapter = OpenAi(egress, self.tracing, RETRY_STATUSES, max_response_bytes=10_000, max_stream_bytes=10_000)
        self.request = asked(self.adapter, ProviderKind.OPENAI_COMPATIBLE, upstream.base_url, version())

    @property
    def call(self) -> Span:
        """The span of the call."""
        span = self.tracing.server_span("call", self.tracing.begin(None), is_root=True)
        assert span is not None
        return span

    def stream(self) -> Any:
        return self.adapter.stream(self.request, total_seconds=30, first_seconds=30, idle_seconds=30)

    def ended(self) -> ReadableSpan:
        """The attempt's span, if it has ended by now; to be asked once."""
        self.tracing.shutdown()
        [span] = [span for span in self.exporter.get_finished_spans() if span.kind is SpanKind.CLIENT]
        return span


@pytest.fixture
async def traced(upstream: Any) -> AsyncIterator[Traced]:
    async with Egress(EgressPolicy(allow_private=True)) as egress:
        yield Traced(egress, upstream)


async def test_a_stream_s_span_has_ended_well_when_its_last_piece_is_given(traced: Traced) -> None:
    traced.upstream.then(traced.upstream.streams(traced.upstream.paris))
    with under(traced.call):
        pieces = traced.stream()
        *_, last = [await anext(pieces) for _ in range(4)]
        span = traced.ended()
        await pieces.aclose()

    assert isinstance(last, ProviderAnswer)
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())
    assert span.attributes is not None
    assert span.attributes["gen_ai.usage.output_tokens"] == 8
    assert "error.type" not in span.attributes


async def test_a_stream_that_fails_is_an_error_by_its_reason_alone(traced: Traced) -> None:
    for step in (traced.upstream.http(503, {}), traced.upstream.streams([])):
        traced.upstream.then(step)
        with under(traced.call):
            [failure] = [piece async for piece in traced.stream()]
        assert isinstance(failure, ProviderFailure)
    traced.tracing.shutdown()
    spans = traced.exporter.get_finished_spans()
    assert [(span.attributes or {})["error.type"] for span in spans] == [
        "PROVIDER_ERROR",
        "PROVIDER_MALFORMED_RESPONSE",
    ]
    assert all(span.status.status_code is StatusCode.ERROR and not span.events for span in spans)


async def test_a_whole_answer_to_a_sampled_stream_is_no_error_either(traced: Traced) -> None:
    traced.upstream.then(traced.upstream.http(200, traced.upstream.completion()))
    with under(traced.call):
        assert [type(piece) async for piece in traced.stream()] == [Started, Delta, ProviderAnswer]
    assert (traced.ended().status.status_code, traced.ended().events) == (StatusCode.UNSET, ())


@pytest.mark.parametrize("waits", [False, True])
async def test_a_caller_who_leaves_a_stream_is_no_error_of_the_provider_s(traced: Traced, waits: bool) -> None:
    step = traced.upstream.streams(traced.upstream.paris[:2], stalls=True)
    traced.upstream.then(step)
    with under(traced.call):
        pieces = traced.stream()
        assert [type(await anext(pieces)) for _ in range(2)] == [Started, Delta]
        if waits:
            waiting = asyncio.create_task(anext(pieces))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        else:
            await pieces.aclose()
    async with asyncio.timeout(5):
        await step.left.wait()

    told_that_its_caller_left(traced.ended())


async def test_a_caller_who_leaves_a_call_is_no_error_of_the_provider_s(traced: Traced) -> None:
    traced.upstream.then(traced.upstream.stall)
    with under(traced.call):
        call = asyncio.create_task(traced.adapter.complete(traced.request, 30))
    async with asyncio.timeout(5):
        while not traced.upstream.received:
            await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    told_that_its_caller_left(traced.ended())


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_attempt_whose_time_ran_out_is_an_error(traced: Traced, is_streamed: bool) -> None:
    traced.upstream.then(traced.upstream.stall)
    adapter, request = traced.adapter, traced.request

    async def ask() -> None:
        if is_streamed:
            [_ async for _ in adapter.stream(request, total_seconds=0.25, first_seconds=30, idle_seconds=30)]
        else:
            await adapter.complete(request, 0.25)

    with under(traced.call):
        # A caller's own timer ends a call a moment before its deadline comes here.
        call = asyncio.create_task(ask())
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    span = traced.ended()
    assert (span.attributes or {})["error.type"] == "DEADLINE_EXCEEDED"
    assert (span.status.status_code, span.events) == (StatusCode.ERROR, ())


@pytest.mark.parametrize(
    ("seconds_left", "error"),
    [
        (DEADLINE_LEAD_SECONDS * 1.01, "CANCELLED"),
        (DEADLINE_LEAD_SECONDS, "DEADLINE_EXCEEDED"),
        (DEADLINE_LEAD_SECONDS * 0.99, "DEADLINE_EXCEEDED"),
        (-1, "DEADLINE_EXCEEDED"),
    ],
)
def test_a_call_that_ends_a_moment_before_its_deadline_ran_out_of_time(seconds_left: float, error: str) -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(sample_ratio=1, resource={}, exporter=exporter)
    span = tracing.server_span("call", tracing.begin(None), is_root=True)
    assert span is not None
    describe_left(span, seconds_left)
    span.end()
    tracing.shutdown()

    [ended] = exporter.get_finished_spans()
    assert (ended.attributes or {})["error.type"] == error
    assert ended.status.status_code is (StatusCode.UNSET if error == "CANCELLED" else StatusCode.ERROR)


def told_that_its_caller_left(span: ReadableSpan) -> None:
    assert (span.attributes or {})["error.type"] == "CANCELLED"
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())
