"""How the calls of a revision find their variants."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """From 0006."""
    # NULL: the weights decide alone.
    op.execute("ALTER TABLE revisions ADD routing bytea")
