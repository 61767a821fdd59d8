"""Requests, payloads, what they add up to, and what could not be taken."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    # Names are stored once; everything else refers to a small number. Slugs are part of the key: a renamed variant
    # begins a new series.
    """
    CREATE TABLE series (
        series integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        project text COLLATE "C" NOT NULL,
        deployment text COLLATE "C" NOT NULL,
        deployment_slug text COLLATE "C" NOT NULL,
        variant text COLLATE "C" NOT NULL,
        variant_slug text COLLATE "C" NOT NULL,
        UNIQUE (project, deployment, deployment_slug, variant, variant_slug)
    )
    """,
    # All moments are microseconds since 1970, as the events have them; days are days since 1970 of the event's id.
    """
    CREATE TABLE requests (
        day integer NOT NULL,
        event_id uuid NOT NULL,
        series integer NOT NULL,
        project text COLLATE "C" NOT NULL,
        request_id text COLLATE "C" NOT NULL,
        outcome smallint NOT NULL,
        start_us bigint NOT NULL,
        latency_us bigint,
        latency_bucket smallint,
        input_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        cost_usd_micros bigint,
        has_unknown_cost boolean NOT NULL,
        event bytea NOT NULL,
        PRIMARY KEY (day, event_id)
    ) PARTITION BY RANGE (day)
    """,
    # Takes events with absurd times, and those of days whose partition is not there yet.
    "CREATE TABLE requests_default PARTITION OF requests DEFAULT",
    "CREATE INDEX requests_by_project ON requests (project, start_us, request_id)",
    "CREATE INDEX requests_by_series ON requests (series, start_us, request_id)",
    # Failures are few, and what people list most.
    "CREATE INDEX requests_not_ok ON requests (project, start_us, request_id) WHERE outcome <> 1",
    """
    CREATE TABLE payloads (
        day integer NOT NULL,
        request_id text COLLATE "C" NOT NULL,
        index integer NOT NULL,
        project text COLLATE "C" NOT NULL,
        count integer NOT NULL,
        truncated boolean NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (day, request_id, index)
    ) PARTITION BY RANGE (day)
    """,
    "CREATE TABLE payloads_default PARTITION OF payloads DEFAULT",
    # Grain: hours in a period, 1 or 24. The fill factor leaves room for updates beside the row they replace.
    """
    CREATE TABLE rollups (
        series integer NOT NULL,
        grain smallint NOT NULL,
        start_us bigint NOT NULL,
        ok bigint NOT NULL,
        errors bigint NOT NULL,
        cancelled bigint NOT NULL,
        lost bigint NOT NULL,
        input_tokens bigint NOT NULL,
        output_tokens bigint NOT NULL,
        cost_usd_micros bigint NOT NULL,
        unknown_cost_requests bigint NOT NULL,
        newest_us bigint NOT NULL,
        PRIMARY KEY (series, grain, start_us)
    ) WITH (fillfactor = 50)
    """,
    # One row a bucket of the latency histogram (services/analytics/domain/histogram.py).
    """
    CREATE TABLE rollup_latencies (
        series integer NOT NULL,
        grain smallint NOT NULL,
        start_us bigint NOT NULL,
        bucket smallint NOT NULL,
        count bigint NOT NULL,
        PRIMARY KEY (series, grain, start_us, bucket)
    ) WITH (fillfactor = 70)
    """,
    """
    CREATE TABLE rejected_events (
        event_id text NOT NULL,
        stream_sequence bigint NOT NULL,
        subject text NOT NULL,
        reason text NOT NULL,
        payload bytea NOT NULL,
        rejected_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (event_id, stream_sequence)
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
