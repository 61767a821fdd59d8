"""Spans of calls that were not sampled, told once it is known that somebody will look: of errors and slow calls."""

from __future__ import annotations

from typing import Final

from opentelemetry.trace import SpanKind

from catalog import plan
from kit.telemetry import PastSpan, TraceContext, Tracing
from services.attempts import asked_nobody, provider_name
from services.executor.domain import Attempt, Run, Status

_PER_SECOND: Final = 20
"""When everything fails at once, these show why; the rest is counted in metrics and listed in logs."""
_PER_MICROSECOND: Final = 1000


class PastTraces:
    """Tells what a finished call did, from its attempts.

    :param slow_us: from which latency on a call is slow
    """

    def __init__(self, tracing: Tracing, slow_us: int) -> None:
        self._tracing = tracing
        self._slow_us = slow_us
        self._second = 0
        self._told = 0

    def consider(self, run: Run) -> None:
        """Tell of it if it is worth it."""
        call = run.call
        if call.is_sampled:
            return
        # Who left before the deadline has seen no error.
        has_failed = run.status is Status.ERROR or run.reason == "DEADLINE_EXCEEDED"
        if not has_failed and run.latency_us < self._slow_us:
            return
        # By the end, which is now: calls that fail together need not have begun together. And not by the time of day,
        # which may be set back.
        second = int(run.started + run.latency_us / 1e6)
        if second > self._second:
            self._second, self._told = second, 0
        self._told += 1
        if self._told <= _PER_SECOND:
            self._tracing.tell_afterwards(TraceContext(call.trace_id, call.span_id, sampled=False), _tree(run))


def _tree(run: Run) -> PastSpan:
    attributes: dict[str, str | int | float | bool] = {
        "turnout.request_id": run.request_id,
        "turnout.project": run.project.slug,
        "turnout.retrospective": True,
    }
    if run.target is not None:
        attributes |= plan.told(run.target, run.decision or run.refusal)
    return PastSpan(
        name="turnout.executor.v1.ExecutionService/" + ("RunStream" if run.call.is_streamed else "Run"),
        kind=SpanKind.SERVER,
        start_unix_ns=run.start_unix_ns,
        end_unix_ns=run.start_unix_ns + run.latency_us * _PER_MICROSECOND,
        attributes=attributes,
        error=run.reason,
        children=[
            _attempt(run, attempt) for attempt in run.attempts if not asked_nobody(attempt.reason, attempt.http_status)
        ],
    )


def _attempt(run: Run, attempt: Attempt) -> PastSpan:
    start = run.start_unix_ns + attempt.start_offset_us * _PER_MICROSECOND
    attributes: dict[str, str | int | float | bool] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _provider_name(run, attempt),
        "gen_ai.request.model": attempt.model,
        "turnout.provider": attempt.provider,
        "turnout.fallback_index": attempt.fallback_index,
    }
    if attempt.http_status:
        attributes["http.response.status_code"] = attempt.http_status
    return PastSpan(
        name="chat " + attempt.model,
        kind=SpanKind.CLIENT,
        start_unix_ns=start,
        end_unix_ns=start + attempt.latency_us * _PER_MICROSECOND,
        attributes=attributes,
        error=attempt.reason,
    )


def _provider_name(run: Run, attempt: Attempt) -> str:
    provider = run.seen.provider_named(run.project.uid, attempt.provider)
    return provider_name(None if provider is None else provider.kind, attempt.provider)
