"""What calls under an idempotency key were answered."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

_STATEMENTS = (
    # Rows live for a day: vacuum early, so that the table stays as large as what it holds.
    """
    CREATE TABLE idempotency_records (
        project text COLLATE "C" NOT NULL,
        api_key text COLLATE "C" NOT NULL,
        key text COLLATE "C" NOT NULL,
        body_hash bytea NOT NULL CHECK (octet_length(body_hash) = 32),
        claim text COLLATE "C" NOT NULL,
        owner text COLLATE "C" NOT NULL,
        answer bytea CHECK (octet_length(answer) <= 4194304),
        answer_bytes integer NOT NULL GENERATED ALWAYS AS (coalesce(octet_length(answer), 0)) STORED,
        started_at timestamptz NOT NULL,
        busy_until timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        PRIMARY KEY (project, api_key, key)
    ) WITH (autovacuum_vacuum_scale_factor = 0.05)
    """,
    # For the sweep, and for how much there is.
    "CREATE INDEX idempotency_records_expires_at_idx ON idempotency_records (expires_at) INCLUDE (answer_bytes)",
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)
