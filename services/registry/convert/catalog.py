"""What the catalog tells of each thing."""

from __future__ import annotations

from typing import Final

from services.registry.convert.contracts import contract_to_proto
from services.registry.convert.execution import OUTPUT_POLICIES_TO_PROTO, fallback_to_proto
from services.registry.convert.providers import model_facts_to_proto
from services.registry.convert.resources import (
    DEPLOYMENT_KINDS_TO_PROTO,
    PROVIDER_KINDS_TO_PROTO,
    UNKNOWN_USERS_TO_PROTO,
)
from services.registry.convert.text import duration
from services.registry.convert.versions import catalog_version
from services.registry.domain import (
    ApiKey,
    Completion,
    Deployment,
    Model,
    Project,
    Provider,
    Recommendation,
    Revision,
    Thing,
    Variant,
    Version,
)
from turnout.registry.v1 import catalog_pb2 as pb

CREDENTIAL_PREFIX: Final = "credential/"
VERSION_PREFIX: Final = "version/"
MODEL_PREFIX: Final = "model/"
IMMUTABLE_PREFIXES: Final = (VERSION_PREFIX, MODEL_PREFIX)
"""Of things that never change while the catalog holds them."""


def catalog_entries(thing: Thing) -> list[tuple[str, bytes | None]]:
    """The thing's keys and what they hold from now on: a serialised CatalogEntry, or None if it is gone."""
    match thing:
        case Project():
            return [_packed(_project(thing))]
        case Provider():
            key = f"{CREDENTIAL_PREFIX}{thing.uid}"
            if thing.envelope is None:
                # It may have had one before.
                return [_packed(_provider(thing)), (key, None)]
            credential = pb.CatalogCredential(provider=thing.uid, envelope=thing.envelope)
            return [_packed(_provider(thing)), _packed(pb.CatalogEntry(key=key, credential=credential))]
        case Version():
            version = pb.CatalogVersion(project=thing.project.uid, version=catalog_version(thing))
            return [_packed(pb.CatalogEntry(key=version_key(thing), version=version))]
        case Deployment():
            if thing.archived_at is not None:
                return [(f"deployment/{thing.uid}", None)]
            return [_packed(_deployment(thing))]
        case Model():
            model = pb.CatalogModel(
                uid=thing.uid, project=thing.project.uid, number=thing.number, digest=thing.facts.digest
            )
            return [_packed(pb.CatalogEntry(key=f"{MODEL_PREFIX}{thing.uid}", model=model))]
        case ApiKey():
            key = api_key_key(thing.uid)
            return [(key, None)] if thing.revoked_at is not None else [_packed(_api_key(thing, key))]


def catalog_keys(thing: Thing) -> list[str]:
    """The thing's keys."""
    return [key for key, _ in catalog_entries(thing)]


def version_key(version: Version) -> str:
    """The catalog key of a version."""
    return f"{VERSION_PREFIX}{version.project.uid}/{version.uid}"


def api_key_key(uid: str) -> str:
    """The catalog key of an API key."""
    return f"api_key/{uid}"


def entry_from_change(key: str, payload: bytes | None) -> pb.CatalogEntry:
    """The entry that a change holds."""
    return pb.CatalogEntry(key=key) if payload is None else pb.CatalogEntry.FromString(payload)


def _packed(entry: pb.CatalogEntry) -> tuple[str, bytes]:
    return entry.key, entry.SerializeToString(deterministic=True)


def _project(project: Project) -> pb.CatalogEntry:
    value = pb.CatalogProject(uid=project.uid, number=project.number, slug=project.slug)
    return pb.CatalogEntry(key=f"project/{project.uid}", project=value)


def _provider(provider: Provider) -> pb.CatalogEntry:
    value = pb.CatalogProvider(
        uid=provider.uid,
        project=provider.project.uid,
        slug=provider.slug,
        kind=PROVIDER_KINDS_TO_PROTO[provider.kind],
        base_url=provider.base_url,
        model_facts=model_facts_to_proto(provider.model_facts),
        max_concurrent_calls=provider.max_concurrent_calls,
    )
    return pb.CatalogEntry(key=f"provider/{provider.uid}", provider=value)


def _deployment(deployment: Deployment) -> pb.CatalogEntry:
    value = pb.CatalogDeployment(
        uid=deployment.uid,
        project=deployment.project.uid,
        slug=deployment.slug,
        kind=DEPLOYMENT_KINDS_TO_PROTO[deployment.kind],
        aliases=[
            pb.CatalogAlias(
                alias=alias.alias,
                revision=alias.revision,
                contract=None if alias.contract is None else contract_to_proto(alias.contract),
            )
            for alias in deployment.aliases
        ],
        revisions=[_revision(revision) for revision in deployment.revisions],
    )
    return pb.CatalogEntry(key=f"deployment/{deployment.uid}", deployment=value)


def _revision(revision: Revision) -> pb.CatalogRevision:
    return pb.CatalogRevision(
        uid=revision.uid,
        number=revision.number,
        salt=revision.salt,
        variants=[_variant(variant) for variant in revision.variants],
    )


def _variant(variant: Variant) -> pb.CatalogVariant:
    proto = pb.CatalogVariant(
        uid=variant.uid,
        number=variant.number,
        slug=variant.slug,
        display_name=variant.display_name,
        active=variant.active,
        weight=variant.weight,
    )
    match variant.serving:
        case Completion():
            proto.completion.CopyFrom(_completion(variant.serving))
        case Recommendation(model, unknown_users):
            proto.recommendation.model = model
            proto.recommendation.unknown_users = UNKNOWN_USERS_TO_PROTO[unknown_users]
    return proto


def _completion(serving: Completion) -> pb.CatalogCompletion:
    execution = serving.execution
    return pb.CatalogCompletion(
        version=serving.version,
        max_retries=serving.max_retries,
        attempt_timeout=duration(serving.attempt_timeout),
        fallbacks=[fallback_to_proto(fallback, provider=fallback.provider_uid) for fallback in execution.fallbacks],
        retry_statuses=execution.retry_statuses,
        first_token_timeout=duration(execution.first_token_timeout),
        idle_timeout=duration(execution.idle_timeout),
        output_policy=OUTPUT_POLICIES_TO_PROTO[execution.output_policy],
    )


def _api_key(key: ApiKey, name: str) -> pb.CatalogEntry:
    value = pb.CatalogApiKey(
        uid=key.uid,
        project="" if key.project is None else key.project.uid,
        secret_hash=key.secret_hash,
        scopes=key.scopes,
        expire_time_ms=0 if key.expires_at is None else max(1, int(key.expires_at.timestamp() * 1000)),
        requests_per_minute=key.requests_per_minute,
    )
    return pb.CatalogEntry(key=name, api_key=value)
