"""Traces and logs: OpenTelemetry spans for the sampled calls, W3C ids for all of them, JSON lines for people's tools.

Every call has a trace id, sampled or not, because it is recorded with the request. Only a sampled call pays for spans.
"""

from __future__ import annotations

import logging
import os
import random
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import orjson
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags

from kit.values import value

_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


_IDS_AT_ONCE = 64
_ids: list[tuple[str, str]] = []


def _fresh_ids() -> tuple[str, str]:
    """A trace's id and a span's. The system is asked for many at once."""
    if not _ids:
        digits = os.urandom(24 * _IDS_AT_ONCE).hex()
        _ids.extend((digits[at : at + 32], digits[at + 32 : at + 48]) for at in range(0, len(digits), 48))
    return _ids.pop()


@value
class TraceContext:
    """Where in a trace something happens (https://www.w3.org/TR/trace-context/)."""

    trace_id: str
    """32 hexadecimal digits, never all zero."""
    span_id: str
    """16 hexadecimal digits, never all zero."""
    sampled: bool

    def traceparent(self) -> str:
        """The header to send along."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse_traceparent(header: str) -> TraceContext | None:
    """The caller's place in a trace; None if the header is absent or malformed, as the W3C text asks."""
    match = _TRACEPARENT.match(header)
    if match is None or header.startswith("ff") or match[1] == _NO_TRACE or match[2] == _NO_SPAN:
        return None
    return TraceContext(match[1], match[2], bool(int(match[3], 16) & 1))


@dataclass(frozen=True, slots=True)
class PastSpan:
    """A piece of work that is over."""

    name: str
    kind: SpanKind
    start_unix_ns: int
    end_unix_ns: int
    attributes: Mapping[str, str | int | float | bool]
    error: str = ""
    """An UPPER_SNAKE reason; empty for success."""
    children: Sequence[PastSpan] = ()


class Tracing:
    """Head sampling and spans for one process.

    :param sample_ratio: share of the calls that arrive without a sampling decision, 0 to 1
    """

    def __init__(self, *, sample_ratio: float, resource: Mapping[str, str], exporter: SpanExporter | None) -> None:
        self._ratio = sample_ratio
        # ALWAYS_ON: the decision was made before a span is asked for, here or by the caller.
        self._provider = TracerProvider(sampler=ALWAYS_ON, resource=Resource.create(dict(resource)))
        if exporter is not None:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("turnout")
        self._exports = exporter is not None

    def begin(self, parent: TraceContext | None) -> TraceContext:
        """The place of a call that arrives: in the caller's trace if it has one, else at the root of a new one."""
        if parent is not None:
            return parent
        sampled = self._exports and self._ratio > 0 and random.random() < self._ratio  # noqa: S311  # no secret
        return TraceContext(*_fresh_ids(), sampled)

    @property
    def is_sampled(self) -> bool:
        """Whether there is a current span, and it is recorded."""
        # Most calls are not sampled. Nothing was attached in them, so there is no need to look for a span.
        return bool(otel_context.get_current()) and (
            otel_trace.get_current_span().get_span_context().trace_flags.sampled
        )

    @contextmanager
    def span(self, name: str, kind: SpanKind, attributes: Mapping[str, str | int | float | bool]) -> Iterator[Span]:
        """A span around a piece of work, child of the current one; free of cost if the call is not sampled."""
        if not self.is_sampled:
            yield otel_trace.INVALID_SPAN
            return
        with self._tracer.start_as_current_span(name, kind=kind, attributes=dict(attributes)) as span:
            yield span

    @contextmanager
    def detached_span(
        self, name: str, kind: SpanKind, attributes: Mapping[str, str | int | float | bool]
    ) -> Iterator[Span]:
        """As :meth:`span`, but the current span stays what it is: for generators, which another task may close."""
        if not self.is_sampled:
            yield otel_trace.INVALID_SPAN
            return
        with self._tracer.start_span(name, kind=kind, attributes=dict(attributes)) as span:
            yield span

    def start_server_span(self, name: str, place: TraceContext, *, is_root: bool) -> Span | None:
        """The span of a call that this process serves; None if it is not sampled."""
        if not (place.sampled and self._exports):
            return None
        parent = otel_context.Context() if is_root else otel_trace.set_span_in_context(_remote(place))
        return self._tracer.start_span(name, context=parent, kind=SpanKind.SERVER)

    @contextmanager
    def linked_span(self, name: str, places: Sequence[TraceContext]) -> Iterator[None]:
        """A root span of work on things that come from many traces: linked to the sampled ones, child of none. Each of
        these has a span of its own beside it, linked to this one, so that a trace shows to its end what became of it.

        Free of cost if none is sampled.
        """
        sampled = [_remote(place) for place in places if place.sampled]
        if not (sampled and self._exports):
            yield
            return
        with self._tracer.start_as_current_span(
            name,
            context=otel_context.Context(),
            kind=SpanKind.CONSUMER,
            links=[Link(span.get_span_context()) for span in sampled],
        ) as batch:
            links = [Link(batch.get_span_context())]
            own = [
                self._tracer.start_span(
                    name, context=otel_trace.set_span_in_context(span), kind=SpanKind.CONSUMER, links=links
                )
                for span in sampled
            ]
            try:
                yield
            except BaseException as error:
                for span in own:
                    span.set_attribute("error.type", getattr(error, "reason", type(error).__name__))
                    span.set_status(StatusCode.ERROR)
                raise
            finally:
                for span in own:
                    span.end()

    def tell_afterwards(self, place: TraceContext, told: PastSpan) -> None:
        """Export spans of a call that was not sampled, now that it is known to be worth it, in the caller's trace.

        A caller who did not sample has no spans there, so it is a tree by itself.
        """
        if not self._exports:
            return
        parent = otel_trace.set_span_in_context(_remote(TraceContext(place.trace_id, place.span_id, sampled=True)))
        self._tell(told, parent)

    def _tell(self, told: PastSpan, parent: otel_context.Context) -> None:
        span = self._tracer.start_span(
            told.name, context=parent, kind=told.kind, attributes=dict(told.attributes), start_time=told.start_unix_ns
        )
        if told.error:
            span.set_attribute("error.type", told.error)
            span.set_status(StatusCode.ERROR)
        for child in told.children:
            self._tell(child, otel_trace.set_span_in_context(span))
        span.end(end_time=told.end_unix_ns)

    def shutdown(self) -> None:
        """Export what is left; bounded by the exporter's own time-outs."""
        self._provider.shutdown()


def otlp_exporter(endpoint: str, headers: str) -> SpanExporter | None:
    """Where spans go: an OTLP/gRPC collector such as `http://127.0.0.1:4317`; None for an empty endpoint.

    :param headers: `name=value,name=value`, as OTEL_EXPORTER_OTLP_HEADERS
    """
    if not endpoint:
        return None
    # Late: importing the exporter takes a third of a second that a process without a collector need not spend.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    pairs = tuple(
        (name.strip(), value) for name, _, value in (part.partition("=") for part in headers.split(",")) if name
    )
    return OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"), headers=pairs, timeout=10)


def place_of(span: Span) -> TraceContext:
    """Where a recording span is."""
    context = span.get_span_context()
    return TraceContext(f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled)


def _remote(place: TraceContext) -> NonRecordingSpan:
    flags = TraceFlags(TraceFlags.SAMPLED if place.sampled else TraceFlags.DEFAULT)
    return NonRecordingSpan(
        SpanContext(int(place.trace_id, 16), int(place.span_id, 16), is_remote=True, trace_flags=flags)
    )


log_trace_id: Final[ContextVar[str]] = ContextVar("log_trace_id", default="")
"""The trace id that log lines of this task carry."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A log line as one JSON object: what happened, and fields given by `extra=`. Never payloads, never credentials."""

    def __init__(self, instance: str) -> None:
        super().__init__()
        self._instance = instance

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            "instance": self._instance,
        }
        if trace_id := log_trace_id.get():
            line["trace_id"] = trace_id
        line.update((key, value) for key, value in record.__dict__.items() if key not in _STANDARD)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:
            # Lone surrogates, or integers past 64 bits: a log line must not be lost to what it tells of.
            clean = {name: str(value).encode("utf-8", "replace").decode() for name, value in line.items()}
            return orjson.dumps(clean).decode()


def _is_news(record: logging.LogRecord) -> bool:
    """All but that a caller had left when its answer was written: gRPC tells of it as an error, with a traceback, where
    the answer was on its way before the news came."""
    return not record.getMessage().startswith("ExecuteBatchError raised in core")


def configure_logging(*, level: str, instance: str) -> None:
    """Log to standard error, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(instance))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Its chatter about plugins is for Alembic's own developers, and begins while it is imported.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)
