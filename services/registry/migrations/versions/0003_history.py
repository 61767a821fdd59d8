"""What a revision was made for, drafts, and deployments out of service."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_STATEMENTS = (
    "ALTER TABLE deployments ADD archived_at timestamptz",
    # Until now every revision was published when it was made.
    """
    ALTER TABLE revisions
        ADD description text NOT NULL DEFAULT '',
        ADD published boolean NOT NULL DEFAULT true""",
    "ALTER TABLE revisions ALTER description DROP DEFAULT, ALTER published DROP DEFAULT",
)


def upgrade() -> None:
    """From 0002."""
    for statement in _STATEMENTS:
        op.execute(statement)
