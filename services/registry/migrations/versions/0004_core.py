"""Contracts of aliases, prompts, change requests, archives, protection, and what lists are filtered by."""

from __future__ import annotations

from alembic import op
from sqlalchemy.exc import DBAPIError

from kit.errors import Precondition

revision = "0004"
down_revision = "0003"

# Trusted: whoever owns the database may create it. In `public`, since a database has it once, whatever the schema.
_TRIGRAMS = "CREATE EXTENSION IF NOT EXISTS pg_trgm WITH SCHEMA public"
_STATEMENTS = (
    # NULL: none is set yet; the next change of the alias sets it.
    "ALTER TABLE aliases ADD contract text",
    "ALTER TABLE providers ADD archived_at timestamptz",
    "ALTER TABLE models ADD archived_at timestamptz",
    "ALTER TABLE api_keys ADD used_at timestamptz",
    "ALTER TABLE versions ADD seen_at timestamptz",
    "UPDATE versions SET seen_at = greatest(created_at, now())",
    "ALTER TABLE versions ALTER seen_at SET NOT NULL",
    "CREATE INDEX versions_seen_at_idx ON versions (seen_at)",
    _TRIGRAMS,
    """
    ALTER TABLE deployments
        ADD protected boolean NOT NULL DEFAULT false,
        ADD search_text text NOT NULL DEFAULT '',
        ADD first_provider text COLLATE "C" NOT NULL DEFAULT '',
        ADD first_model text COLLATE "C" NOT NULL DEFAULT '',
        ADD search tsvector GENERATED ALWAYS AS (to_tsvector('simple', search_text)) STORED""",
    # What their variants run is added by their next change.
    "UPDATE deployments SET search_text = slug || ' ' || display_name || ' ' || description",
    """
    ALTER TABLE deployments
        ALTER protected DROP DEFAULT, ALTER search_text DROP DEFAULT,
        ALTER first_provider DROP DEFAULT, ALTER first_model DROP DEFAULT""",
    "CREATE INDEX deployments_search_idx ON deployments USING gin (search) WITH (fastupdate = off)",
    """
    CREATE INDEX deployments_search_text_idx ON deployments USING gin (search_text public.gin_trgm_ops)
        WITH (fastupdate = off)""",
    "CREATE INDEX deployments_project_updated_at_uid_idx ON deployments (project, updated_at, uid)",
    "CREATE INDEX deployments_project_first_provider_uid_idx ON deployments (project, first_provider, uid)",
    "CREATE INDEX deployments_project_first_model_uid_idx ON deployments (project, first_model, uid)",
    """
    CREATE TABLE prompts (
        uid text PRIMARY KEY,
        project text NOT NULL REFERENCES projects,
        slug text NOT NULL,
        display_name text NOT NULL,
        description text NOT NULL,
        number integer NOT NULL,
        creator text NOT NULL,
        archived_at timestamptz,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        created_in bigint NOT NULL,
        changed_in bigint NOT NULL,
        UNIQUE (project, slug)
    )""",
    "CREATE INDEX prompts_project_created_in_uid_idx ON prompts (project, created_in, uid)",
    """
    CREATE TABLE prompt_numbers (
        prompt text NOT NULL REFERENCES prompts,
        number integer NOT NULL,
        content bytea NOT NULL,
        note text NOT NULL,
        author text NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (prompt, number)
    )""",
    """
    ALTER TABLE revision_variants
        ADD prompt text,
        ADD prompt_number integer,
        ADD FOREIGN KEY (prompt, prompt_number) REFERENCES prompt_numbers (prompt, number)""",
    "CREATE INDEX revision_variants_prompt_idx ON revision_variants (prompt)",
    """
    CREATE TABLE change_requests (
        uid text PRIMARY KEY,
        deployment text NOT NULL REFERENCES deployments,
        alias text NOT NULL,
        base text REFERENCES revisions,
        revision text NOT NULL REFERENCES revisions,
        retain_contract boolean NOT NULL,
        description text NOT NULL,
        author text NOT NULL,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        created_in bigint NOT NULL,
        state text NOT NULL,
        decider text NOT NULL,
        decided_at timestamptz,
        decision_note text NOT NULL
    )""",
    "CREATE INDEX change_requests_deployment_created_in_uid_idx ON change_requests (deployment, created_in, uid)",
)


def upgrade() -> None:
    """From 0003."""
    for statement in _STATEMENTS:
        try:
            op.execute(statement)
        except DBAPIError as error:
            if statement is not _TRIGRAMS:
                raise
            raise Precondition(
                "the database needs the extension pg_trgm: install PostgreSQL's contrib modules, and let a superuser "
                f"run `{_TRIGRAMS}` in it",
                reason="PG_TRGM_MISSING",
            ) from error
