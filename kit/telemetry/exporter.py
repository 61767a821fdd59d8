"""Where spans go."""

from __future__ import annotations

import os

from opentelemetry.sdk.trace.export import SpanExporter


def otlp_exporter(endpoint: str, headers: str) -> SpanExporter | None:
    """Where spans go: an OTLP/gRPC collector such as `http://127.0.0.1:4317`; None for an empty endpoint, or where
    OTEL_SDK_DISABLED says so.

    :param headers: `name=value,name=value`, as OTEL_EXPORTER_OTLP_HEADERS
    """
    if not endpoint or os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    # Late: importing the exporter takes a third of a second that a process without a collector need not spend.
    from kit.telemetry.otlp import OtlpExporter

    pairs = tuple(
        (name.strip(), value) for name, _, value in (part.partition("=") for part in headers.split(",")) if name
    )
    return OtlpExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"), headers=pairs, timeout=10)
