"""Rows to domain objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Row

from services.registry.convert.execution import pack_execution, unpack_execution
from services.registry.convert.providers import pack_model_facts, unpack_model_facts
from services.registry.convert.routing import unpack_routing
from services.registry.convert.versions import unpack_content
from services.registry.domain import (
    Alias,
    ApiKey,
    Completion,
    Deployment,
    DeploymentKind,
    Model,
    ModelFacts,
    Project,
    PromptUse,
    Provider,
    ProviderKind,
    Recommendation,
    Record,
    Revision,
    Serving,
    UnknownUsers,
    Variant,
    Version,
    contract_from_text,
)

# A row's columns are those of the query that made it, which no type of SQLAlchemy's tells.
AnyRow = Row[Any]

_MICROSECOND = timedelta(microseconds=1)
_SERVING_COLUMNS = (
    "version",
    "max_retries",
    "attempt_timeout_us",
    "prompt",
    "prompt_number",
    "execution",
    "fallback_providers",
    "model",
    "unknown_users",
)


def record(row: AnyRow) -> Record:
    """When it was made and changed."""
    return Record(row.created_at, row.updated_at, row.created_in, row.changed_in)


def record_values(kept: Record) -> dict[str, object]:
    """The same as columns."""
    return {
        "created_at": kept.created_at,
        "updated_at": kept.updated_at,
        "created_in": kept.created_in,
        "changed_in": kept.changed_in,
    }


def project(row: AnyRow) -> Project:
    """From `projects`."""
    return Project(row.uid, row.number, row.slug, row.display_name, record(row))


def provider(row: AnyRow, of: Project) -> Provider:
    """From `providers`."""
    return Provider(
        uid=row.uid,
        project=of,
        slug=row.slug,
        kind=ProviderKind(row.kind),
        display_name=row.display_name,
        base_url=row.base_url,
        envelope=row.envelope,
        record=record(row),
        archived_at=row.archived_at,
        model_facts=unpack_model_facts(row.model_facts),
        max_concurrent_calls=row.max_concurrent_calls,
    )


def provider_values(kept: Provider) -> dict[str, object]:
    """What of it can change, as columns."""
    return {
        "display_name": kept.display_name,
        "base_url": kept.base_url,
        "envelope": kept.envelope,
        "archived_at": kept.archived_at,
        "model_facts": pack_model_facts(kept.model_facts),
        "max_concurrent_calls": kept.max_concurrent_calls,
        **record_values(kept.record),
    }


def version(row: AnyRow, of: Project) -> Version:
    """From `versions`, with `is_used`."""
    content = unpack_content(row.content)
    return Version(row.uid, of, row.provider, content, row.created_at, row.created_in, row.seen_at, row.is_used)


def api_key(row: AnyRow, of: Project | None) -> ApiKey:
    """From `api_keys`."""
    return ApiKey(
        uid=row.uid,
        project=of,
        display_name=row.display_name,
        scopes=tuple(row.scopes),
        secret_hash=row.secret_hash,
        creator=row.creator,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        record=record(row),
        bootstrap=row.bootstrap,
        used_at=row.used_at,
        requests_per_minute=row.requests_per_minute,
    )


def variant(row: AnyRow) -> Variant:
    """From `revision_variants` joined with `variants`."""
    return Variant(
        uid=row.uid,
        number=row.number,
        slug=row.slug,
        display_name=row.display_name,
        notes=row.notes,
        active=row.active,
        weight=row.weight,
        serving=_serving(row),
    )


def _serving(row: AnyRow) -> Serving:
    if row.model is not None:
        return Recommendation(row.model, UnknownUsers(row.unknown_users))
    timeout = None if row.attempt_timeout_us is None else timedelta(microseconds=row.attempt_timeout_us)
    prompt = None if row.prompt is None else PromptUse(row.prompt, row.prompt_slug, row.prompt_number)
    execution = unpack_execution(row.execution, row.fallback_providers or ())
    return Completion(row.version, row.max_retries, timeout, prompt, execution)


def serving_values(serving: Serving) -> dict[str, object]:
    """The same as columns."""
    values: dict[str, object] = dict.fromkeys(_SERVING_COLUMNS)
    match serving:
        case Completion(version, max_retries, timeout, prompt, execution):
            timeout_us = None if timeout is None else timeout // _MICROSECOND
            values |= {"version": version, "max_retries": max_retries, "attempt_timeout_us": timeout_us}
            if prompt is not None:
                values |= {"prompt": prompt.uid, "prompt_number": prompt.number}
            values["execution"] = pack_execution(execution)
            values["fallback_providers"] = [each.provider_uid for each in execution.fallbacks] or None
        case Recommendation(model, unknown_users):
            values |= {"model": model, "unknown_users": unknown_users}
    return values


def model(row: AnyRow, of: Project) -> Model:
    """From `models`."""
    facts = ModelFacts(
        display_name=row.display_name,
        description=row.description,
        digest=row.digest,
        algorithm=row.algorithm,
        parameters_json=row.parameters_json,
        metrics_json=row.metrics_json,
        user_count=row.user_count,
        item_count=row.item_count,
        interaction_count=row.interaction_count,
        size_bytes=row.size_bytes,
    )
    return Model(row.uid, of, row.number, facts, row.creator, record(row), row.archived_at)


def revision(row: AnyRow, variants: Iterable[Variant]) -> Revision:
    """From `revisions`, joined with their parents."""
    return Revision(
        uid=row.uid,
        parent=row.parent or "",
        parent_number="" if row.parent is None else f"{row.parent_major}.{row.parent_minor}",
        major=row.major,
        minor=row.minor,
        salt=row.salt,
        author=row.author,
        description=row.description,
        created_at=row.created_at,
        is_draft=not row.published,
        variants=tuple(variants),
        routing=unpack_routing(row.routing),
    )


def deployment(row: AnyRow, of: Project, aliases: Iterable[AnyRow], revisions: Mapping[str, Revision]) -> Deployment:
    """From `deployments`, with the rows of its aliases and the revisions that they point to."""
    pointers = tuple(
        Alias(
            alias.alias,
            alias.revision,
            alias.updated_at,
            None if alias.contract is None else contract_from_text(alias.contract),
        )
        for alias in aliases
    )
    return Deployment(
        uid=row.uid,
        project=of,
        slug=row.slug,
        kind=DeploymentKind(row.kind),
        display_name=row.display_name,
        description=row.description,
        creator=row.creator,
        aliases=pointers,
        revisions=tuple(revisions[uid] for uid in dict.fromkeys(alias.revision for alias in pointers)),
        archived_at=row.archived_at,
        record=record(row),
        is_protected=row.protected,
    )
