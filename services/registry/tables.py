"""The registry's rows, in its schema. The change log's tables are `kit.changelog`'s."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR

SCHEMA: Final = "registry"

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


def _record() -> tuple[Column[object], ...]:
    """When, and in which changes of the log, a row was made and last changed."""
    return (
        Column("created_at", DateTime(timezone=True), nullable=False),
        Column("updated_at", DateTime(timezone=True), nullable=False),
        Column("created_in", BigInteger, nullable=False),
        Column("changed_in", BigInteger, nullable=False),
    )


counters = Table(
    "counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)

projects = Table(
    "projects",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("slug", Text, nullable=False, unique=True),
    Column("display_name", Text, nullable=False),
    *_record(),
    Index(None, "created_in", "uid"),
)

providers = Table(
    "providers",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("project", Text, ForeignKey("projects.uid"), nullable=False),
    Column("slug", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("base_url", Text, nullable=False),
    Column("envelope", LargeBinary),
    Column("archived_at", DateTime(timezone=True)),
    # A serialised turnout.registry.v1.Provider with its model facts only; NULL without any.
    Column("model_facts", LargeBinary),
    Column("max_concurrent_calls", Integer, nullable=False),
    *_record(),
    UniqueConstraint("project", "slug"),
    Index(None, "project", "created_in", "uid"),
)

versions = Table(
    "versions",
    metadata,
    Column("project", Text, ForeignKey("projects.uid"), primary_key=True),
    Column("uid", Text, primary_key=True),
    Column("provider", Text, ForeignKey("providers.uid"), nullable=False),
    # A serialised turnout.registry.v1.Version without its output-only fields.
    Column("content", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    # When it was last put, run, or used by a revision.
    Column("seen_at", DateTime(timezone=True), nullable=False),
    Column("created_in", BigInteger, nullable=False),
    # The provider's name for it, as in `content`: what deployments are found by is not looked for in there.
    Column("model", Text, nullable=False),
    Index(None, "project", "created_in", "uid"),
    Index(None, "seen_at"),
)

deployments = Table(
    "deployments",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("project", Text, ForeignKey("projects.uid"), nullable=False),
    Column("slug", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("creator", Text, nullable=False),
    Column("archived_at", DateTime(timezone=True)),
    Column("protected", Boolean, nullable=False),
    # The words that a list is filtered by.
    Column("search_text", Text, nullable=False),
    Column("search", TSVECTOR, Computed("to_tsvector('simple', search_text)", persisted=True)),
    # What the first active variant of `live` runs, for sorting: in the same order whatever the database's collation.
    Column("first_provider", Text(collation="C"), nullable=False),
    Column("first_model", Text(collation="C"), nullable=False),
    *_record(),
    UniqueConstraint("project", "slug"),
    Index(None, "project", "created_in", "uid"),
    Index(None, "project", "updated_at", "uid"),
    Index(None, "project", "first_provider", "uid"),
    Index(None, "project", "first_model", "uid"),
    # No list of pending rows, which each search would read whole: the planner would rather read the table.
    Index(None, "search", postgresql_using="gin", postgresql_with={"fastupdate": "off"}),
    Index(
        None,
        "search_text",
        postgresql_using="gin",
        postgresql_ops={"search_text": "public.gin_trgm_ops"},
        postgresql_with={"fastupdate": "off"},
    ),
)

prompts = Table(
    "prompts",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("project", Text, ForeignKey("projects.uid"), nullable=False),
    Column("slug", Text, nullable=False),
    Column("display_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    # Of its latest state.
    Column("number", Integer, nullable=False),
    Column("creator", Text, nullable=False),
    Column("archived_at", DateTime(timezone=True)),
    *_record(),
    UniqueConstraint("project", "slug"),
    Index(None, "project", "created_in", "uid"),
)

prompt_numbers = Table(
    "prompt_numbers",
    metadata,
    Column("prompt", Text, ForeignKey("prompts.uid"), primary_key=True),
    Column("number", Integer, primary_key=True),
    # A serialised turnout.registry.v1.Version with messages and variables schema only.
    Column("content", LargeBinary, nullable=False),
    Column("note", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

models = Table(
    "models",
    metadata,
    Column("project", Text, ForeignKey("projects.uid"), primary_key=True),
    Column("uid", Text, primary_key=True),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("display_name", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("algorithm", Text, nullable=False),
    Column("parameters_json", Text, nullable=False),
    Column("metrics_json", Text, nullable=False),
    Column("user_count", BigInteger, nullable=False),
    Column("item_count", BigInteger, nullable=False),
    Column("interaction_count", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("creator", Text, nullable=False),
    Column("archived_at", DateTime(timezone=True)),
    *_record(),
    UniqueConstraint("project", "digest"),
    Index(None, "project", "created_in", "uid"),
)

revisions = Table(
    "revisions",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("deployment", Text, ForeignKey("deployments.uid"), nullable=False),
    Column("major", Integer, nullable=False),
    Column("minor", Integer, nullable=False),
    Column("parent", Text, ForeignKey("revisions.uid")),
    Column("salt", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("description", Text, nullable=False),
    # Whether an alias has ever pointed to it.
    Column("published", Boolean, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    # A serialised turnout.registry.v1.Routing whose variants are uids; NULL where the weights decide alone.
    Column("routing", LargeBinary),
    UniqueConstraint("deployment", "major", "minor"),
)

variants = Table(
    "variants",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("deployment", Text, ForeignKey("deployments.uid"), nullable=False),
    Column("number", BigInteger, nullable=False, unique=True),
    Column("slug", Text, nullable=False),
    UniqueConstraint("deployment", "slug"),
)

revision_variants = Table(
    "revision_variants",
    metadata,
    Column("revision", Text, ForeignKey("revisions.uid"), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("variant", Text, ForeignKey("variants.uid"), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("notes", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("weight", Double, nullable=False),
    Column("project", Text, nullable=False),
    # Of a completion.
    Column("version", Text),
    Column("max_retries", Integer),
    Column("attempt_timeout_us", BigInteger),
    # The prompt that the version was made from.
    Column("prompt", Text),
    Column("prompt_number", Integer),
    # What is done about failures: a serialised turnout.registry.v1.CompletionVariant with nothing else. NULL: nothing.
    Column("execution", LargeBinary),
    # The uids of the providers of its fallbacks, in order; NULL without any.
    Column("fallback_providers", ARRAY(Text)),
    # Of a recommendation.
    Column("model", Text),
    Column("unknown_users", Text),
    UniqueConstraint("revision", "variant"),
    ForeignKeyConstraint(["project", "version"], ["versions.project", "versions.uid"]),
    ForeignKeyConstraint(["project", "model"], ["models.project", "models.uid"]),
    ForeignKeyConstraint(["prompt", "prompt_number"], ["prompt_numbers.prompt", "prompt_numbers.number"]),
    Index(None, "project", "version"),
    Index(None, "project", "model"),
    Index(None, "prompt"),
    Index(
        None,
        "fallback_providers",
        postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
        postgresql_where=text("fallback_providers IS NOT NULL"),
    ),
)

aliases = Table(
    "aliases",
    metadata,
    Column("deployment", Text, ForeignKey("deployments.uid"), primary_key=True),
    Column("alias", Text, primary_key=True),
    Column("revision", Text, ForeignKey("revisions.uid"), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    # A JSON object of `variables` and `response_format`; NULL until a revision with variants sets it.
    Column("contract", Text),
)

change_requests = Table(
    "change_requests",
    metadata,
    Column("uid", Text, primary_key=True),
    Column("deployment", Text, ForeignKey("deployments.uid"), nullable=False),
    Column("alias", Text, nullable=False),
    # What the alias pointed to; NULL if there was none.
    Column("base", Text, ForeignKey("revisions.uid")),
    Column("revision", Text, ForeignKey("revisions.uid"), nullable=False),
    Column("retain_contract", Boolean, nullable=False),
    Column("description", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("created_in", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("decider", Text, nullable=False),
    Column("decided_at", DateTime(timezone=True)),
    Column("decision_note", Text, nullable=False),
    Index(None, "deployment", "created_in", "uid"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("uid", Text, primary_key=True),
    # NULL: a key of the installation.
    Column("project", Text, ForeignKey("projects.uid")),
    Column("display_name", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("creator", Text, nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("revoked_at", DateTime(timezone=True)),
    Column("bootstrap", Text, nullable=False),
    # 0: no bound.
    Column("requests_per_minute", Integer, nullable=False),
    # Outside the change log: the latest that any service told.
    Column("used_at", DateTime(timezone=True)),
    *_record(),
    Index(None, "project", "created_in", "uid"),
)

create_requests = Table(
    "create_requests",
    metadata,
    # The project's uid; empty for requests of the installation.
    Column("tenant", Text, primary_key=True),
    Column("rpc", Text, primary_key=True),
    Column("request_id", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("resource", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)
