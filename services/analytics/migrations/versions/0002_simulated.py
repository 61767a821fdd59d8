"""Which requests were only tried: kept in the log, and counted nowhere."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    # With a constant default no row is written again, however many there are.
    op.execute("ALTER TABLE requests ADD COLUMN is_simulated boolean NOT NULL DEFAULT false")
