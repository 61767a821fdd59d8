"""Events and messages to what analytics knows, and back; pure."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from kit import ids
from kit.errors import Invalid, Violation
from kit.paging import Page
from services.analytics.domain.histogram import quantiles
from services.analytics.domain.metrics import Dimension, Metrics, Row
from services.analytics.domain.request import Outcome, PayloadPiece, Request, Series
from services.analytics.domain.rollup import Totals
from services.analytics.ports import LogEntry
from turnout.analytics.v1 import log_service_pb2 as log_pb
from turnout.analytics.v1 import metrics_service_pb2 as metrics_pb
from turnout.events.v1 import request_pb2 as events_pb
from turnout.executor.v1 import execution_pb2

_MAX_NUMBER: Final = 1 << 50
"""What a latency, a price or a count of tokens may be: more would make the sums of honest requests overflow."""
_MAX_TEXT: Final = 200
_MAX_PIECES: Final = 1 << 15
_MIN_SECONDS: Final = -62_135_596_800
_MAX_SECONDS: Final = 253_402_300_799
"""0001-01-01 and 9999-12-31: what a timestamp may hold."""

_DIMENSIONS: Final[dict[int, Dimension]] = {
    metrics_pb.METRICS_DIMENSION_UNSPECIFIED: Dimension.VARIANT,
    metrics_pb.METRICS_DIMENSION_DEPLOYMENT: Dimension.DEPLOYMENT,
    metrics_pb.METRICS_DIMENSION_VARIANT: Dimension.VARIANT,
}


class Malformed(ValueError):
    """An event that cannot be taken. The text is an UPPER_SNAKE reason."""


def request_of(event_id: str, packed: bytes) -> Request:
    """The request that an event tells of.

    :raises Malformed: if it tells of none
    """
    _check_event_id(event_id)
    event = events_pb.RequestServed()
    try:
        event.MergeFromString(packed)
    except DecodeError:
        raise Malformed("EVENT_UNREADABLE") from None
    decision = event.decision
    series = Series(event.project, decision.deployment, event.deployment_slug, decision.variant, decision.variant_slug)
    if not event.project or not all(_is_name(name) for name in series):
        raise Malformed("NAME_MALFORMED")
    try:
        outcome = Outcome(event.status)
    except ValueError:
        raise Malformed("STATUS_UNKNOWN") from None
    if not event.HasField("start_time") or not _MIN_SECONDS <= event.start_time.seconds <= _MAX_SECONDS:
        raise Malformed("START_TIME_MALFORMED")
    usage = event.usage
    cost = event.cost_usd_micros if event.HasField("cost_usd_micros") else None
    numbers = (event.latency_us, usage.input_tokens, usage.output_tokens, cost or 0)
    if not 0 <= min(numbers) <= max(numbers) <= _MAX_NUMBER:
        raise Malformed("NUMBER_OUT_OF_RANGE")
    return Request(
        event_id=event_id,
        request_id=_request_id(event.request_id),
        series=series,
        outcome=outcome,
        start_us=us_of(event.start_time),
        latency_us=None if outcome is Outcome.LOST else event.latency_us,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cost_usd_micros=cost,
        has_unknown_cost=cost is None and bool(usage.input_tokens or usage.output_tokens),
        packed=packed,
        is_simulated=event.source == execution_pb2.SOURCE_SIMULATOR,
    )


def piece_of(event_id: str, packed: bytes) -> PayloadPiece:
    """The piece of a payload that an event holds.

    :raises Malformed: if it holds none
    """
    _check_event_id(event_id)
    event = events_pb.RequestPayload()
    try:
        event.MergeFromString(packed)
    except DecodeError:
        raise Malformed("EVENT_UNREADABLE") from None
    if not event.project or not _is_name(event.project):
        raise Malformed("NAME_MALFORMED")
    if not 0 <= event.index < event.count <= _MAX_PIECES:
        raise Malformed("NUMBER_OUT_OF_RANGE")
    return PayloadPiece(
        _request_id(event.request_id),
        event.project,
        event.index,
        event.count,
        event.truncated,
        event.data,
    )


def outcome_of(status: int) -> Outcome | None:
    """Which outcome a list keeps, by the number of a `RequestStatus`; None for all."""
    return Outcome(status) if status else None


def dimension_of(group_by: int) -> Dimension:
    """What rows are grouped by, by the number of a `MetricsDimension`."""
    return _DIMENSIONS[group_by]


def moment_of(message: metrics_pb.QueryMetricsRequest | log_pb.ListLogsRequest, field: str) -> int | None:
    """A moment that a request names, in microseconds since 1970; None if it names none.

    :raises Invalid: `TIME_MALFORMED` if it is no moment between the years 1 and 9999
    """
    if not message.HasField(field):  # type: ignore[arg-type]  # the stubs list the fields literally
        return None
    moment: Timestamp = getattr(message, field)
    if not _MIN_SECONDS <= moment.seconds <= _MAX_SECONDS or not 0 <= moment.nanos < 1_000_000_000:
        violation = Violation(field, "must lie between the years 1 and 9999, with 0 to 999999999 nanoseconds")
        raise Invalid(f"{field} {violation.message}", reason="TIME_MALFORMED", violations=(violation,))
    return us_of(moment)


def us_of(moment: Timestamp) -> int:
    """Microseconds since 1970; what is finer is cut."""
    return moment.seconds * 1_000_000 + moment.nanos // 1000


def timestamp_of(moment_us: int) -> Timestamp:
    """The inverse of :func:`us_of`."""
    return Timestamp(seconds=moment_us // 1_000_000, nanos=moment_us % 1_000_000 * 1000)


def metrics_to_proto(metrics: Metrics) -> metrics_pb.QueryMetricsResponse:
    return metrics_pb.QueryMetricsResponse(
        rows=[_row_to_proto(row) for row in metrics.rows],
        total=_totals_to_proto(metrics.total),
        start_time=timestamp_of(metrics.window.start_us),
        end_time=timestamp_of(metrics.window.end_us),
    )


def logs_to_proto(project_slug: str, page: Page[LogEntry]) -> log_pb.ListLogsResponse:
    return log_pb.ListLogsResponse(
        logs=[
            log_pb.Log(
                name=f"projects/{project_slug}/logs/{entry.request_id}",
                request=events_pb.RequestServed.FromString(entry.packed),
            )
            for entry in page.items
        ],
        next_page_token=page.next_token,
    )


def _row_to_proto(row: Row) -> metrics_pb.MetricsRow:
    measured = _totals_to_proto(row.totals)
    measured.deployment = row.deployment
    measured.deployment_slug = row.deployment_slug
    measured.variant = row.variant
    measured.variant_slug = row.variant_slug
    return measured


def _totals_to_proto(totals: Totals) -> metrics_pb.MetricsRow:
    measured = metrics_pb.MetricsRow(
        requests=totals.requests,
        ok=totals.count(Outcome.OK),
        errors=totals.count(Outcome.ERROR),
        cancelled=totals.count(Outcome.CANCELLED),
        lost=totals.count(Outcome.LOST),
        input_tokens=totals.input_tokens,
        output_tokens=totals.output_tokens,
        cost_usd_micros=totals.cost_usd_micros,
        unknown_cost_requests=totals.unknown_cost_requests,
    )
    if (found := quantiles(totals.latencies, (0.5, 0.95, 0.99))) is not None:
        measured.latency_p50_us, measured.latency_p95_us, measured.latency_p99_us = found
    return measured


def _check_event_id(event_id: str) -> None:
    try:
        ids.decode(event_id)
    except ValueError:
        raise Malformed("EVENT_ID_MALFORMED") from None


def _request_id(text: str) -> str:
    if not ids.is_uid(text):
        raise Malformed("REQUEST_ID_MALFORMED")
    return text


def _is_name(text: str) -> bool:
    return len(text) <= _MAX_TEXT and "\0" not in text
