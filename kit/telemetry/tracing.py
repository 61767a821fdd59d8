"""Head sampling and spans for one process."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind

from kit.telemetry.place import TraceContext, fresh_ids
from kit.telemetry.span import NO_SPAN, AttributeValue, Span, current_span


@dataclass(frozen=True, slots=True)
class PastSpan:
    """A piece of work that is over."""

    name: str
    kind: SpanKind
    start_unix_ns: int
    end_unix_ns: int
    attributes: Mapping[str, AttributeValue]
    error: str = ""
    """An UPPER_SNAKE reason; empty for success."""
    children: Sequence[PastSpan] = ()


_EXPORT_BATCH: Final = 128
_EXPORT_BATCH_SETTING: Final = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"


class Tracing:
    """Head sampling and spans for one process.

    :param sample_ratio: share of the calls that arrive without a sampling decision, 0 to 1
    """

    def __init__(self, *, sample_ratio: float, resource: Mapping[str, str], exporter: SpanExporter | None) -> None:
        self._ratio = sample_ratio
        self._resource = Resource.create(dict(resource))
        # Its bounds are the SDK's own settings (OTEL_BSP_…): past 2048 spans that wait, the oldest are dropped.
        self._processor = None if exporter is None else BatchSpanProcessor(exporter, max_export_batch_size=_at_once())

    def begin(self, parent: TraceContext | None) -> TraceContext:
        """The place of a call that arrives: in the caller's trace if it has one, else at the root of a new one."""
        if parent is not None:
            return parent
        sampled = self._processor is not None and self._ratio > 0 and random.random() < self._ratio  # noqa: S311
        return TraceContext(*fresh_ids(), sampled)

    @property
    def is_sampled(self) -> bool:
        """Whether the call that is served has a span."""
        return current_span.get() is not None

    def span(self, name: str, kind: SpanKind, attributes: Mapping[str, AttributeValue]) -> Span:
        """A span of a piece of work, child of the call's; to be ended, as by `with`. Nothing if that is not sampled."""
        current = current_span.get()
        if current is None:
            return NO_SPAN
        return self._start(name, kind, current.place, attributes=dict(attributes))

    def server_span(self, name: str, place: TraceContext, *, is_root: bool) -> Span | None:
        """The span of a call that this process serves; None if it is not sampled.

        :param place: the caller's; of a root, what :meth:`begin` gave
        """
        if not place.sampled or self._processor is None:
            return None
        if is_root:
            return self._start(name, SpanKind.SERVER, None, place=place)
        return self._start(name, SpanKind.SERVER, place, is_remote=True)

    @contextmanager
    def linked_span(self, name: str, places: Sequence[TraceContext]) -> Iterator[None]:
        """A root span of work on things that come from many traces: linked to the sampled ones, child of none. Each of
        these has a span of its own beside it, linked to this one, so that a trace shows to its end what became of it.

        Free of cost if none is sampled.
        """
        sampled = [place for place in places if place.sampled]
        if not sampled or self._processor is None:
            yield
            return
        batch = self._start(name, SpanKind.CONSUMER, None, linked=[(place, True) for place in sampled])
        token = current_span.set(batch)
        try:
            with ExitStack() as spans:
                spans.enter_context(batch)
                for place in sampled:
                    own = self._start(name, SpanKind.CONSUMER, place, is_remote=True, linked=((batch.place, False),))
                    spans.enter_context(own)
                yield
        finally:
            current_span.reset(token)

    def tell_afterwards(self, place: TraceContext, told: PastSpan) -> None:
        """Export spans of a call that was not sampled, now that it is known to be worth it, in the caller's trace.

        A caller who did not sample has no spans there, so it is a tree by itself.
        """
        if self._processor is not None:
            self._tell(told, TraceContext(place.trace_id, place.span_id, sampled=True), is_remote=True)

    def _tell(self, told: PastSpan, parent: TraceContext, *, is_remote: bool) -> None:
        span = self._start(
            told.name,
            told.kind,
            parent,
            is_remote=is_remote,
            attributes=dict(told.attributes),
            start_unix_ns=told.start_unix_ns,
        )
        if told.error:
            span.fail(told.error)
        for child in told.children:
            self._tell(child, span.place, is_remote=False)
        span.end(told.end_unix_ns)

    def _start(
        self,
        name: str,
        kind: SpanKind,
        parent: TraceContext | None,
        *,
        place: TraceContext | None = None,
        is_remote: bool = False,
        attributes: dict[str, AttributeValue] | None = None,
        linked: Sequence[tuple[TraceContext, bool]] = (),
        start_unix_ns: int = 0,
    ) -> Span:
        if place is None:
            trace_id, span_id = fresh_ids()
            place = TraceContext(trace_id if parent is None else parent.trace_id, span_id, sampled=True)
        return Span(
            name,
            place,
            kind,
            parent=parent,
            parent_is_remote=is_remote,
            attributes={} if attributes is None else attributes,
            resource=self._resource,
            end=self._ended,
            linked=linked,
            start_unix_ns=start_unix_ns,
        )

    def _ended(self, span: Span) -> None:
        if self._processor is not None:
            # It has all that exporters read of one.
            self._processor.on_end(cast("ReadableSpan", span))

    def shutdown(self) -> None:
        """Export what is left; bounded by the exporter's own time-outs."""
        if self._processor is not None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]  # untyped


def _at_once() -> int | None:
    """How many spans are encoded at once, unless somebody says otherwise; None: as the SDK reads it.

    Fewer than the SDK's 512: whoever encodes holds the interpreter, 6 µs a span, and calls wait for it.
    """
    return None if _EXPORT_BATCH_SETTING in os.environ else _EXPORT_BATCH
