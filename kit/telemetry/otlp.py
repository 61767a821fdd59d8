"""Our spans in OTLP (https://opentelemetry.io/docs/specs/otlp/), sent by the SDK's exporter."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, cast

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from kit.telemetry.span import SCOPE, AttributeValue, Span

_log = logging.getLogger(__name__)

_KINDS: Final = {
    SpanKind.INTERNAL: trace_pb2.Span.SPAN_KIND_INTERNAL,
    SpanKind.SERVER: trace_pb2.Span.SPAN_KIND_SERVER,
    SpanKind.CLIENT: trace_pb2.Span.SPAN_KIND_CLIENT,
    SpanKind.PRODUCER: trace_pb2.Span.SPAN_KIND_PRODUCER,
    SpanKind.CONSUMER: trace_pb2.Span.SPAN_KIND_CONSUMER,
}
_LOCAL: Final = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE: Final = _LOCAL | trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_FAILED: Final = trace_pb2.Status(code=trace_pb2.Status.STATUS_CODE_ERROR)
_KEPT_CHARACTERS: Final = 100


class OtlpExporter(OTLPSpanExporter):
    """The SDK's, for spans of :mod:`kit.telemetry.span`."""

    def _translate_data(self, data: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
        return request_of(cast("Sequence[Span]", data))


def request_of(spans: Sequence[Span]) -> ExportTraceServiceRequest:
    """What is sent of spans of one process, at least one."""
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    resource = spans[0].resource
    attributes = cast("Mapping[str, AttributeValue]", resource.attributes)
    of_resource.resource.CopyFrom(Resource(attributes=_attributes(attributes)))
    of_resource.schema_url = resource.schema_url
    of_scope = of_resource.scope_spans.add(scope=InstrumentationScope(name=SCOPE.name))
    of_scope.spans.extend(map(_span, spans))
    return request


def _span(span: Span) -> trace_pb2.Span:
    place, parent = span.place, span.parent_place
    return trace_pb2.Span(
        trace_id=bytes.fromhex(place.trace_id),
        span_id=bytes.fromhex(place.span_id),
        parent_span_id=b"" if parent is None else bytes.fromhex(parent.span_id),
        name=_sayable(span.name),
        kind=_KINDS[span.kind],
        start_time_unix_nano=span.start_time,
        end_time_unix_nano=span.end_time,
        attributes=_attributes(span.attributes),
        links=[
            trace_pb2.Span.Link(
                trace_id=bytes.fromhex(linked.trace_id),
                span_id=bytes.fromhex(linked.span_id),
                flags=_REMOTE if is_remote else _LOCAL,
            )
            for linked, is_remote in span.linked
        ],
        status=_FAILED if span.has_failed else None,
        flags=_REMOTE if span.parent_is_remote else _LOCAL,
    )


def _sayable(text: str) -> str:
    """Lone surrogates would stand in the way of all that is sent with it."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _attributes(attributes: Mapping[str, AttributeValue]) -> list[KeyValue]:
    pairs = []
    for name, value in attributes.items():
        try:
            pairs.append(_attribute(name, value))
        except (TypeError, ValueError) as error:
            # One that cannot be sent must not keep back the others, nor all other spans.
            _log.warning("an attribute of a span is left out", extra={"attribute": name, "error": type(error).__name__})
    return pairs


def _attribute(name: str, value: AttributeValue) -> KeyValue:
    # Most say the same in every call, but for numbers.
    if isinstance(value, str) and len(value) <= _KEPT_CHARACTERS:
        return _text(name, value)
    return KeyValue(key=name, value=_value(value))


@lru_cache(maxsize=1024)
def _text(name: str, value: str) -> KeyValue:
    return KeyValue(key=name, value=AnyValue(string_value=value))


def _value(value: AttributeValue) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=each) for each in value]))
