"""How hard variants try, what is known of providers' models, and bounds of providers and keys."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    # NULL: nothing was asked for.
    "ALTER TABLE revision_variants ADD execution bytea, ADD fallback_providers text[]",
    """
    CREATE INDEX revision_variants_fallback_providers_idx ON revision_variants USING gin (fallback_providers)
        WITH (fastupdate = off) WHERE fallback_providers IS NOT NULL""",
    "ALTER TABLE providers ADD model_facts bytea, ADD max_concurrent_calls integer NOT NULL DEFAULT 0",
    "ALTER TABLE providers ALTER max_concurrent_calls DROP DEFAULT",
    "ALTER TABLE api_keys ADD requests_per_minute integer NOT NULL DEFAULT 0",
    "ALTER TABLE api_keys ALTER requests_per_minute DROP DEFAULT",
)


def upgrade() -> None:
    """From 0004."""
    for statement in _STATEMENTS:
        op.execute(statement)
