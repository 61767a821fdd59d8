"""Traces and logs: OpenTelemetry spans for the sampled calls, W3C ids for all of them, JSON lines for people's tools.

Every call has a trace id, sampled or not, because it is recorded with the request. Only a sampled call pays for spans.
"""

from kit.telemetry.exporter import otlp_exporter
from kit.telemetry.logs import JsonFormatter, configure_logging, log_trace_id
from kit.telemetry.place import TraceContext, parse_traceparent
from kit.telemetry.span import NO_SPAN, AttributeValue, Span, current_span
from kit.telemetry.tracing import PastSpan, Tracing

__all__ = (
    "NO_SPAN",
    "AttributeValue",
    "JsonFormatter",
    "PastSpan",
    "Span",
    "TraceContext",
    "Tracing",
    "configure_logging",
    "current_span",
    "log_trace_id",
    "otlp_exporter",
    "parse_traceparent",
)
