"""Trained models, variants that serve them, and what a revision was made from."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

_STATEMENTS = (
    """
    CREATE TABLE models (
        project text NOT NULL REFERENCES projects,
        uid text NOT NULL,
        number bigint NOT NULL UNIQUE,
        display_name text NOT NULL,
        description text NOT NULL,
        digest text NOT NULL,
        algorithm text NOT NULL,
        parameters_json text NOT NULL,
        metrics_json text NOT NULL,
        user_count bigint NOT NULL,
        item_count bigint NOT NULL,
        interaction_count bigint NOT NULL,
        size_bytes bigint NOT NULL,
        creator text NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        created_in bigint NOT NULL,
        changed_in bigint NOT NULL,
        PRIMARY KEY (project, uid),
        UNIQUE (project, digest)
    )""",
    "CREATE INDEX models_project_created_in_uid_idx ON models (project, created_in, uid)",
    "ALTER TABLE revisions ADD parent text REFERENCES revisions",
    """
    ALTER TABLE revision_variants
        ALTER version DROP NOT NULL,
        ALTER max_retries DROP NOT NULL,
        ADD model text,
        ADD unknown_users text,
        ADD FOREIGN KEY (project, model) REFERENCES models,
        ADD CHECK ((version IS NULL) <> (model IS NULL)),
        ADD CHECK ((version IS NULL) = (max_retries IS NULL)),
        ADD CHECK ((model IS NULL) = (unknown_users IS NULL))""",
    # What is in use is asked for whenever an alias moves.
    "CREATE INDEX revision_variants_project_version_idx ON revision_variants (project, version)",
    "CREATE INDEX revision_variants_project_model_idx ON revision_variants (project, model)",
)


def upgrade() -> None:
    """From 0001."""
    for statement in _STATEMENTS:
        op.execute(statement)
