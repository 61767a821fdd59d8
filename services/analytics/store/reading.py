"""Questions, answered from one snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from services.analytics.domain.request import Outcome, Series
from services.analytics.domain.rollup import Totals
from services.analytics.domain.window import Cover
from services.analytics.ports import LogEntry, LogQuery

_SERIES: Final = """
    SELECT series, project, deployment, deployment_slug, variant, variant_slug FROM series WHERE project = $1::text
"""
# Three parts at most, each a range of the primary key. As one join with the parts, the planner would read all.
_PARTS: Final = """
    SELECT * FROM {table}
    WHERE series = ANY ($1::integer[]) AND grain = $2::smallint AND start_us >= $3::bigint AND start_us < $4::bigint
    UNION ALL
    SELECT * FROM {table}
    WHERE series = ANY ($1::integer[]) AND grain = $5::smallint AND start_us >= $6::bigint AND start_us < $7::bigint
    UNION ALL
    SELECT * FROM {table}
    WHERE series = ANY ($1::integer[]) AND grain = $8::smallint AND start_us >= $9::bigint AND start_us < $10::bigint
"""
_MAX_PARTS: Final = 3
_NO_PART: Final = (0, 0, 0)
_ROLLUPS: Final = f"""
    SELECT series, sum(ok)::bigint, sum(errors)::bigint, sum(cancelled)::bigint, sum(lost)::bigint,
        sum(input_tokens)::bigint, sum(output_tokens)::bigint, sum(cost_usd_micros)::bigint,
        sum(unknown_cost_requests)::bigint, max(newest_us)
    FROM ({_PARTS.format(table="rollups")}) AS part
    GROUP BY series
"""  # noqa: S608  # our own names
_LATENCIES: Final = f"""
    SELECT series, bucket, sum(count)::bigint FROM ({_PARTS.format(table="rollup_latencies")}) AS part
    GROUP BY series, bucket
"""  # noqa: S608  # our own names
_EDGE: Final = """
    SELECT series, outcome, latency_bucket, count(*), sum(input_tokens)::bigint, sum(output_tokens)::bigint,
        coalesce(sum(cost_usd_micros), 0)::bigint, count(*) FILTER (WHERE has_unknown_cost), max(start_us)
    FROM requests
    WHERE series = ANY ($1::integer[]) AND start_us >= $2::bigint AND start_us < $3::bigint AND NOT is_simulated
    GROUP BY series, outcome, latency_bucket
"""
# The running sum is of sizes only, which Postgres knows without reading large values.
_LOGS: Final = """
    SELECT request_id, start_us, event, total FROM (
        SELECT request_id, start_us, event, count(*) OVER () AS total,
            sum(octet_length(event)) OVER (ORDER BY start_us DESC, request_id DESC ROWS UNBOUNDED PRECEDING)
                - octet_length(event) AS bytes_before
        FROM ({page}) AS page
    ) AS measured
    WHERE bytes_before < $6::bigint
    ORDER BY start_us DESC, request_id DESC
    LIMIT $5::bigint - 1
"""
_PAGE: Final = """
    SELECT request_id, start_us, event FROM requests
    WHERE {whose} AND start_us >= $2::bigint AND (start_us, request_id) < ($3::bigint, $4::text) {outcome}
    ORDER BY start_us DESC, request_id DESC
    LIMIT $5::bigint
"""
_PAGE_OF_SERIES: Final = """
    SELECT request_id, start_us, event FROM unnest($1::integer[]) AS wanted (number)
    CROSS JOIN LATERAL ({page}) AS newest
    ORDER BY start_us DESC, request_id DESC
    LIMIT $5::bigint
"""


class PostgresReading:
    """One snapshot."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._numbers: dict[Series, int] = {}

    async def series(self, project: str) -> frozenset[Series]:
        for number, *names in await self._rows(_SERIES, project):
            self._numbers[Series(*names)] = number
        return frozenset(self._numbers)

    async def totals(self, series: Iterable[Series], cover: Cover) -> Mapping[Series, Totals]:
        by_number = {self._numbers[each]: each for each in series}
        found = {number: Totals() for number in by_number}
        numbers = sorted(by_number)
        if numbers and cover.periods:
            parts = [(int(grain), *span) for grain, span in cover.periods]
            parts += [_NO_PART] * (_MAX_PARTS - len(parts))
            bounds = [bound for part in parts for bound in part]
            for number, ok, errors, cancelled, lost, *sums in await self._rows(_ROLLUPS, numbers, *bounds):
                found[number].add(Totals([ok, errors, cancelled, lost], *sums))
            for number, bucket, count in await self._rows(_LATENCIES, numbers, *bounds):
                found[number].latencies[bucket] = count
        for span in cover.edges if numbers else ():
            for number, outcome, bucket, count, *sums in await self._rows(_EDGE, numbers, span.start_us, span.end_us):
                edge = Totals([count if each == outcome else 0 for each in Outcome], *sums)
                if bucket is not None:
                    edge.latencies[bucket] = count
                found[number].add(edge)
        return {by_number[number]: totals for number, totals in found.items()}

    async def logs(self, query: LogQuery, *, limit: int, max_bytes: int) -> tuple[Sequence[LogEntry], bool]:
        # Before the end of the window: no request id sorts before the empty text.
        before = (query.window.end_us, "")
        if query.before is not None:
            before = min(before, query.before)
        outcome = ""
        if query.outcome is not None:
            # In the text, not a parameter, so that the planner sees that the small index of failures will do.
            outcome = f"AND outcome = {int(query.outcome)}"
            if query.outcome is not Outcome.OK:
                outcome += " AND outcome <> 1"
        whose: str | list[int] = query.project
        page = _PAGE.format(whose="project = $1::text", outcome=outcome)
        if query.series is not None:
            whose = sorted(self._numbers[each] for each in query.series)
            page = _PAGE_OF_SERIES.format(page=_PAGE.format(whose="series = wanted.number", outcome=outcome))
        rows = await self._rows(_LOGS.format(page=page), whose, query.window.start_us, *before, limit + 1, max_bytes)
        entries = [LogEntry(start_us, request_id, event) for request_id, start_us, event, _ in rows]
        return entries, bool(rows) and rows[0][3] > len(rows)

    async def _rows(self, sql: str, *parameters: object) -> Sequence[Sequence[Any]]:
        return (await self._connection.exec_driver_sql(sql, parameters)).all()
