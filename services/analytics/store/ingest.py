"""The transaction that takes events. Rows go in sorted by key, so that two such transactions never wait in a circle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from kit import ids
from services.analytics.domain.histogram import bucket_of
from services.analytics.domain.request import PayloadPiece, Rejection, Request, Series
from services.analytics.domain.rollup import Period, Totals

_ADD_REQUESTS: Final = """
    INSERT INTO requests (
        day, event_id, series, project, request_id, outcome, start_us, latency_us, latency_bucket,
        input_tokens, output_tokens, cost_usd_micros, has_unknown_cost, event, is_simulated
    )
    SELECT * FROM unnest(
        $1::integer[], $2::uuid[], $3::integer[], $4::text[], $5::text[], $6::smallint[], $7::bigint[], $8::bigint[],
        $9::smallint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::boolean[], $14::bytea[],
        $15::boolean[]
    )
    ON CONFLICT DO NOTHING
    RETURNING event_id
"""
_ADD_ROLLUPS: Final = """
    INSERT INTO rollups AS known (
        series, grain, start_us, ok, errors, cancelled, lost,
        input_tokens, output_tokens, cost_usd_micros, unknown_cost_requests, newest_us
    )
    SELECT * FROM unnest(
        $1::integer[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[]
    )
    ON CONFLICT (series, grain, start_us) DO UPDATE SET
        ok = known.ok + excluded.ok,
        errors = known.errors + excluded.errors,
        cancelled = known.cancelled + excluded.cancelled,
        lost = known.lost + excluded.lost,
        input_tokens = known.input_tokens + excluded.input_tokens,
        output_tokens = known.output_tokens + excluded.output_tokens,
        cost_usd_micros = known.cost_usd_micros + excluded.cost_usd_micros,
        unknown_cost_requests = known.unknown_cost_requests + excluded.unknown_cost_requests,
        newest_us = greatest(known.newest_us, excluded.newest_us)
"""
_ADD_LATENCIES: Final = """
    INSERT INTO rollup_latencies AS known (series, grain, start_us, bucket, count)
    SELECT * FROM unnest($1::integer[], $2::smallint[], $3::bigint[], $4::smallint[], $5::bigint[])
    ON CONFLICT (series, grain, start_us, bucket) DO UPDATE SET count = known.count + excluded.count
"""
_ADD_PAYLOADS: Final = """
    INSERT INTO payloads (day, request_id, index, project, count, truncated, data)
    SELECT * FROM unnest(
        $1::integer[], $2::text[], $3::integer[], $4::text[], $5::integer[], $6::boolean[], $7::bytea[]
    )
    ON CONFLICT DO NOTHING
"""
_REJECT: Final = """
    INSERT INTO rejected_events (event_id, stream_sequence, subject, reason, payload)
    VALUES ($1::text, $2::bigint, $3::text, $4::text, $5::bytea)
    ON CONFLICT DO NOTHING
"""


class PostgresIngest:
    """One transaction.

    :param numbers: of all series that will be added
    """

    def __init__(self, connection: AsyncConnection, numbers: Mapping[Series, int]) -> None:
        self._connection = connection
        self._numbers = numbers

    async def add_requests(self, requests: Sequence[Request]) -> Sequence[Request]:
        by_id = {ids.decode(request.event_id): request for request in requests}
        rows = sorted((request.day, number, request) for number, request in by_id.items())
        numbers = self._numbers
        columns = (
            [day for day, _, _ in rows],
            [f"{number:032x}" for _, number, _ in rows],
            [numbers[request.series] for _, _, request in rows],
            [request.series.project for _, _, request in rows],
            [request.request_id for _, _, request in rows],
            [int(request.outcome) for _, _, request in rows],
            [request.start_us for _, _, request in rows],
            [request.latency_us for _, _, request in rows],
            [None if request.latency_us is None else bucket_of(request.latency_us) for _, _, request in rows],
            [request.input_tokens for _, _, request in rows],
            [request.output_tokens for _, _, request in rows],
            [request.cost_usd_micros for _, _, request in rows],
            [request.has_unknown_cost for _, _, request in rows],
            [request.packed for _, _, request in rows],
            [request.is_simulated for _, _, request in rows],
        )
        added = (await self._connection.exec_driver_sql(_ADD_REQUESTS, columns)).all()
        if len(added) == len(by_id):
            return list(by_id.values())
        return [by_id[event_id.int] for (event_id,) in added]

    async def add_totals(self, periods: Mapping[Period, Totals]) -> None:
        rows = sorted(
            ((self._numbers[series], int(grain), start_us), totals)
            for (series, grain, start_us), totals in periods.items()
        )
        if not rows:
            return
        await self._connection.exec_driver_sql(
            _ADD_ROLLUPS,
            (
                [series for (series, _, _), _ in rows],
                [grain for (_, grain, _), _ in rows],
                [start_us for (_, _, start_us), _ in rows],
                *([totals.outcomes[position] for _, totals in rows] for position in range(4)),
                [totals.input_tokens for _, totals in rows],
                [totals.output_tokens for _, totals in rows],
                [totals.cost_usd_micros for _, totals in rows],
                [totals.unknown_cost_requests for _, totals in rows],
                [totals.newest_us for _, totals in rows],
            ),
        )
        buckets = [(*key, bucket, count) for key, totals in rows for bucket, count in sorted(totals.latencies.items())]
        if buckets:
            columns = tuple([*column] for column in zip(*buckets, strict=True))
            await self._connection.exec_driver_sql(_ADD_LATENCIES, columns)

    async def add_payloads(self, pieces: Sequence[PayloadPiece]) -> None:
        keyed = {(piece.day, piece.request_id, piece.index): piece for piece in pieces}
        rows = sorted(keyed.items())
        await self._connection.exec_driver_sql(
            _ADD_PAYLOADS,
            (
                *([key[position] for key, _ in rows] for position in range(3)),
                [piece.project for _, piece in rows],
                [piece.count for _, piece in rows],
                [piece.truncated for _, piece in rows],
                [piece.data for _, piece in rows],
            ),
        )

    async def reject(self, rejection: Rejection) -> None:
        texts = (rejection.event_id, rejection.subject, rejection.reason)
        event_id, subject, reason = (_storable(text) for text in texts)
        await self._connection.exec_driver_sql(
            _REJECT, (event_id, rejection.stream_sequence, subject, reason, rejection.payload)
        )


def _storable(text: str) -> str:
    """What Postgres takes of a text; ids that long are nobody's."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()[:1000]
