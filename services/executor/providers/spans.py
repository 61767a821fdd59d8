"""What the client span of an attempt tells of how it ended."""

from __future__ import annotations

from kit.telemetry import Span
from services.executor.domain import DEADLINE_LEAD_SECONDS, ProviderAnswer, ProviderFailure, Reason


def describe_left(span: Span, seconds_left: float) -> None:
    """Of an attempt that was given up: nobody's error if the caller left, and one if the time ran out.

    :param seconds_left: of those that the call had
    """
    if seconds_left > DEADLINE_LEAD_SECONDS:
        span.set_attribute("error.type", Reason.CANCELLED.value)
        return
    span.fail("DEADLINE_EXCEEDED")


def describe(span: Span, outcome: ProviderAnswer | ProviderFailure) -> None:
    """Of an attempt that came to its end."""
    if outcome.http_status:
        span.set_attribute("http.response.status_code", outcome.http_status)
    if isinstance(outcome, ProviderFailure):
        span.fail(outcome.reason.value)
        return
    span.set_attribute("gen_ai.response.model", outcome.model)
    if outcome.finish_reason is not None:
        span.set_attribute("gen_ai.response.finish_reasons", (outcome.finish_reason.value,))
    if outcome.usage.input_tokens is not None:
        span.set_attribute("gen_ai.usage.input_tokens", outcome.usage.input_tokens)
    if outcome.usage.output_tokens is not None:
        span.set_attribute("gen_ai.usage.output_tokens", outcome.usage.output_tokens)
