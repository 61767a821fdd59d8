"""What the catalog tells of each thing."""

from __future__ import annotations

from typing import Any, Final

from services.registry.convert.contracts import contract_to_proto
from services.registry.convert.execution import OUTPUT_POLICIES_TO_PROTO, fallback_to_proto
from services.registry.convert.providers import model_facts_to_proto
from services.registry.convert.resources import (
    DEPLOYMENT_KINDS_TO_PROTO,
    PROVIDER_KINDS_TO_PROTO,
    UNKNOWN_USERS_TO_PROTO,
)
from services.registry.convert.routing import routing_to_catalog
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


def catalog_entries(thing: Thing) -> list[tuple[str, bytes | None]]:
    """The thing's keys and what they hold from now on: a serialised CatalogEntry, or None if it is gone."""
    keys = catalog_keys(thing)
    match thing:
        case Project():
            values: list[dict[str, Any] | None] = [{"project": _project(thing)}]
        case Provider():
            # Without a credential it may have had one before.
            credential = None if thing.envelope is None else {"credential": _credential(thing.uid, thing.envelope)}
            values = [{"provider": _provider(thing)}, credential]
        case Version():
            values = [{"version": pb.CatalogVersion(project=thing.project.uid, version=catalog_version(thing))}]
        case Deployment():
            values = [{"deployment": _deployment(thing)} if thing.archived_at is None else None]
        case Model():
            values = [{"model": _model(thing)}]
        case ApiKey():
            values = [{"api_key": _api_key(thing)} if thing.revoked_at is None else None]
    return [(key, None if value is None else _packed(key, value)) for key, value in zip(keys, values, strict=True)]


def catalog_keys(thing: Thing) -> list[str]:
    """The thing's keys."""
    match thing:
        case Project():
            return [f"project/{thing.uid}"]
        case Provider():
            return [f"provider/{thing.uid}", f"{CREDENTIAL_PREFIX}{thing.uid}"]
        case Version():
            return [f"version/{thing.project.uid}/{thing.uid}"]
        case Deployment():
            return [f"deployment/{thing.uid}"]
        case Model():
            return [f"model/{thing.uid}"]
        case ApiKey():
            return [api_key_key(thing.uid)]


def api_key_key(uid: str) -> str:
    """The catalog key of an API key."""
    return f"api_key/{uid}"


def entry_from_change(key: str, payload: bytes | None) -> pb.CatalogEntry:
    """The entry that a change holds."""
    return pb.CatalogEntry(key=key) if payload is None else pb.CatalogEntry.FromString(payload)


def _packed(key: str, value: dict[str, Any]) -> bytes:
    return pb.CatalogEntry(key=key, **value).SerializeToString(deterministic=True)


def _project(project: Project) -> pb.CatalogProject:
    return pb.CatalogProject(uid=project.uid, number=project.number, slug=project.slug)


def _credential(provider: str, envelope: bytes) -> pb.CatalogCredential:
    return pb.CatalogCredential(provider=provider, envelope=envelope)


def _provider(provider: Provider) -> pb.CatalogProvider:
    return pb.CatalogProvider(
        uid=provider.uid,
        project=provider.project.uid,
        slug=provider.slug,
        kind=PROVIDER_KINDS_TO_PROTO[provider.kind],
        base_url=provider.base_url,
        model_facts=model_facts_to_proto(provider.model_facts),
        max_concurrent_calls=provider.max_concurrent_calls,
    )


def _model(model: Model) -> pb.CatalogModel:
    return pb.CatalogModel(uid=model.uid, project=model.project.uid, number=model.number, digest=model.facts.digest)


def _deployment(deployment: Deployment) -> pb.CatalogDeployment:
    return pb.CatalogDeployment(
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


def _revision(revision: Revision) -> pb.CatalogRevision:
    return pb.CatalogRevision(
        uid=revision.uid,
        number=revision.number,
        salt=revision.salt,
        variants=[_variant(variant) for variant in revision.variants],
        routing=routing_to_catalog(revision.routing),
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


def _api_key(key: ApiKey) -> pb.CatalogApiKey:
    return pb.CatalogApiKey(
        uid=key.uid,
        project="" if key.project is None else key.project.uid,
        secret_hash=key.secret_hash,
        scopes=key.scopes,
        expire_time_ms=0 if key.expires_at is None else max(1, int(key.expires_at.timestamp() * 1000)),
        requests_per_minute=key.requests_per_minute,
    )
