"""First tables: projects, providers, versions, deployments, API keys, and the change log."""

from __future__ import annotations

from alembic import op

from kit import changelog

revision = "0001"
down_revision = None

_RECORD = """
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    created_in bigint NOT NULL,
    changed_in bigint NOT NULL"""

_TABLES = (
    """
    CREATE TABLE counters (
        name text PRIMARY KEY,
        value bigint NOT NULL
    )""",
    f"""
    CREATE TABLE projects (
        uid text PRIMARY KEY,
        number bigint NOT NULL UNIQUE,
        slug text NOT NULL UNIQUE,
        display_name text NOT NULL,{_RECORD}
    )""",
    "CREATE INDEX projects_created_in_uid_idx ON projects (created_in, uid)",
    f"""
    CREATE TABLE providers (
        uid text PRIMARY KEY,
        project text NOT NULL REFERENCES projects,
        slug text NOT NULL,
        kind text NOT NULL,
        display_name text NOT NULL,
        base_url text NOT NULL,
        envelope bytea,{_RECORD},
        UNIQUE (project, slug)
    )""",
    "CREATE INDEX providers_project_created_in_uid_idx ON providers (project, created_in, uid)",
    """
    CREATE TABLE versions (
        project text NOT NULL REFERENCES projects,
        uid text NOT NULL,
        provider text NOT NULL REFERENCES providers,
        content bytea NOT NULL,
        created_at timestamptz NOT NULL,
        created_in bigint NOT NULL,
        PRIMARY KEY (project, uid)
    )""",
    "CREATE INDEX versions_project_created_in_uid_idx ON versions (project, created_in, uid)",
    f"""
    CREATE TABLE deployments (
        uid text PRIMARY KEY,
        project text NOT NULL REFERENCES projects,
        slug text NOT NULL,
        kind text NOT NULL,
        display_name text NOT NULL,
        description text NOT NULL,
        creator text NOT NULL,{_RECORD},
        UNIQUE (project, slug)
    )""",
    "CREATE INDEX deployments_project_created_in_uid_idx ON deployments (project, created_in, uid)",
    """
    CREATE TABLE revisions (
        uid text PRIMARY KEY,
        deployment text NOT NULL REFERENCES deployments,
        major integer NOT NULL,
        minor integer NOT NULL,
        salt text NOT NULL,
        author text NOT NULL,
        created_at timestamptz NOT NULL,
        UNIQUE (deployment, major, minor)
    )""",
    """
    CREATE TABLE variants (
        uid text PRIMARY KEY,
        deployment text NOT NULL REFERENCES deployments,
        number bigint NOT NULL UNIQUE,
        slug text NOT NULL,
        UNIQUE (deployment, slug)
    )""",
    """
    CREATE TABLE revision_variants (
        revision text NOT NULL REFERENCES revisions,
        position integer NOT NULL,
        variant text NOT NULL REFERENCES variants,
        display_name text NOT NULL,
        notes text NOT NULL,
        active boolean NOT NULL,
        weight double precision NOT NULL CHECK (weight >= 0 AND weight <= 100),
        project text NOT NULL,
        version text NOT NULL,
        max_retries integer NOT NULL CHECK (max_retries BETWEEN 0 AND 10),
        attempt_timeout_us bigint CHECK (attempt_timeout_us > 0),
        PRIMARY KEY (revision, position),
        UNIQUE (revision, variant),
        FOREIGN KEY (project, version) REFERENCES versions
    )""",
    """
    CREATE TABLE aliases (
        deployment text NOT NULL REFERENCES deployments,
        alias text NOT NULL,
        revision text NOT NULL REFERENCES revisions,
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (deployment, alias)
    )""",
    f"""
    CREATE TABLE api_keys (
        uid text PRIMARY KEY,
        project text REFERENCES projects,
        display_name text NOT NULL,
        scopes text[] NOT NULL,
        secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
        creator text NOT NULL,
        expires_at timestamptz,
        revoked_at timestamptz,
        bootstrap text NOT NULL,{_RECORD}
    )""",
    "CREATE INDEX api_keys_project_created_in_uid_idx ON api_keys (project, created_in, uid)",
    """
    CREATE TABLE create_requests (
        tenant text NOT NULL,
        rpc text NOT NULL,
        request_id text NOT NULL,
        fingerprint bytea NOT NULL,
        resource text NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (tenant, rpc, request_id)
    )""",
)


def upgrade() -> None:
    """From nothing."""
    for statement in _TABLES:
        op.execute(statement)
    changelog.create_tables(op.get_bind())
