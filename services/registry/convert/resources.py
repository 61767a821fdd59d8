"""Projects, providers, deployments, their revisions and variants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from catalog.configurations import version_from_proto
from kit.secrets import Secret
from services.registry import domain
from services.registry.convert.changes import paths_named
from services.registry.convert.contracts import contract_to_proto
from services.registry.convert.execution import execution_from_proto, execution_to_proto
from services.registry.convert.providers import model_facts_from_proto, model_facts_to_proto
from services.registry.convert.routing import routing_draft, routing_to_proto
from services.registry.convert.text import duration, time_to_proto
from services.registry.domain import (
    NO_ROUTING,
    Completion,
    CompletionDraft,
    Deployment,
    DeploymentChange,
    DeploymentDraft,
    DeploymentKind,
    Difference,
    DifferenceKind,
    Project,
    ProjectDraft,
    Provider,
    ProviderChange,
    ProviderDraft,
    ProviderKind,
    Recommendation,
    RecommendationDraft,
    Revision,
    ServingDraft,
    UnknownUsers,
    Variant,
    VariantChange,
    VariantDraft,
    violated,
)
from turnout.registry.v1 import deployment_pb2, project_pb2, provider_pb2, revision_pb2

PROVIDER_KINDS: Final = {
    provider_pb2.PROVIDER_KIND_OPENAI: ProviderKind.OPENAI,
    provider_pb2.PROVIDER_KIND_OPENAI_COMPATIBLE: ProviderKind.OPENAI_COMPATIBLE,
    provider_pb2.PROVIDER_KIND_ANTHROPIC: ProviderKind.ANTHROPIC,
    provider_pb2.PROVIDER_KIND_OLLAMA: ProviderKind.OLLAMA,
}
PROVIDER_KINDS_TO_PROTO: Final = {kind: number for number, kind in PROVIDER_KINDS.items()}
DEPLOYMENT_KINDS: Final = {
    deployment_pb2.DEPLOYMENT_KIND_COMPLETION: DeploymentKind.COMPLETION,
    deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION: DeploymentKind.RECOMMENDATION,
}
DEPLOYMENT_KINDS_TO_PROTO: Final = {kind: number for number, kind in DEPLOYMENT_KINDS.items()}
UNKNOWN_USERS: Final = {
    deployment_pb2.UNKNOWN_USERS_UNSPECIFIED: UnknownUsers.POPULAR,
    deployment_pb2.UNKNOWN_USERS_POPULAR: UnknownUsers.POPULAR,
    deployment_pb2.UNKNOWN_USERS_REFUSE: UnknownUsers.REFUSE,
}
UNKNOWN_USERS_TO_PROTO: Final = {
    UnknownUsers.POPULAR: deployment_pb2.UNKNOWN_USERS_POPULAR,
    UnknownUsers.REFUSE: deployment_pb2.UNKNOWN_USERS_REFUSE,
}
_DIFFERENCE_KINDS: Final = {
    DifferenceKind.ADDED: revision_pb2.DIFFERENCE_KIND_ADDED,
    DifferenceKind.REMOVED: revision_pb2.DIFFERENCE_KIND_REMOVED,
    DifferenceKind.CHANGED: revision_pb2.DIFFERENCE_KIND_CHANGED,
}
_PROVIDER_CHANGEABLE: Final = ("display_name", "base_url", "credential", "model_facts", "max_concurrent_calls")
_REVISED: Final = ("salt", "routing")
"""What of a deployment's own fields its revisions have."""
_DEPLOYMENT_CHANGEABLE: Final = ("display_name", "description", *_REVISED, "protected")
_SERVINGS: Final = ("completion", "recommendation")
_CHANGEABLE: Final = ("display_name", "notes", "active", "weight", *_SERVINGS)


def project_draft(slug: str, project: project_pb2.Project) -> ProjectDraft:
    """What CreateProject is given."""
    return ProjectDraft(slug, project.display_name)


def project_to_proto(project: Project) -> project_pb2.Project:
    """As callers see it."""
    return project_pb2.Project(
        name=project.name,
        uid=project.uid,
        number=project.number,
        display_name=project.display_name,
        create_time=time_to_proto(project.record.created_at),
        update_time=time_to_proto(project.record.updated_at),
        etag=project.record.etag(project.uid),
    )


def provider_draft(slug: str, provider: provider_pb2.Provider) -> ProviderDraft:
    """What CreateProvider is given.

    :raises Invalid: `PROVIDER_KIND_REQUIRED`
    """
    if provider.kind == provider_pb2.PROVIDER_KIND_UNSPECIFIED:
        raise violated("PROVIDER_KIND_REQUIRED", "provider.kind", "is required")
    return ProviderDraft(
        slug=slug,
        kind=PROVIDER_KINDS[provider.kind],
        display_name=provider.display_name,
        base_url=provider.base_url,
        credential=Secret(provider.credential) if provider.credential else None,
        model_facts=model_facts_from_proto(provider),
        max_concurrent_calls=provider.max_concurrent_calls,
    )


def provider_change(provider: provider_pb2.Provider, paths: Sequence[str]) -> ProviderChange:
    """What UpdateProvider is to change.

    :param paths: as :func:`variant_change`
    :raises Invalid: `UPDATE_MASK_INVALID`
    """
    named = paths_named(provider, paths, _PROVIDER_CHANGEABLE)
    return ProviderChange(
        display_name=provider.display_name if "display_name" in named else None,
        base_url=provider.base_url if "base_url" in named else None,
        changes_credential="credential" in named,
        credential=Secret(provider.credential) if provider.credential else None,
        model_facts=model_facts_from_proto(provider) if "model_facts" in named else None,
        max_concurrent_calls=provider.max_concurrent_calls if "max_concurrent_calls" in named else None,
    )


def provider_to_proto(provider: Provider) -> provider_pb2.Provider:
    """As callers see it: never with its credential."""
    return provider_pb2.Provider(
        name=provider.name,
        uid=provider.uid,
        kind=PROVIDER_KINDS_TO_PROTO[provider.kind],
        display_name=provider.display_name,
        base_url=provider.base_url,
        has_credential=provider.envelope is not None,
        create_time=time_to_proto(provider.record.created_at),
        update_time=time_to_proto(provider.record.updated_at),
        etag=provider.record.etag(provider.uid),
        archived=provider.archived_at is not None,
        model_facts=model_facts_to_proto(provider.model_facts),
        max_concurrent_calls=provider.max_concurrent_calls,
    )


def deployment_draft(slug: str, deployment: deployment_pb2.Deployment) -> DeploymentDraft:
    """What CreateDeployment is given.

    :raises Invalid: as :func:`version_from_proto`
    """
    if deployment.kind == deployment_pb2.DEPLOYMENT_KIND_UNSPECIFIED:
        raise violated("DEPLOYMENT_KIND_REQUIRED", "deployment.kind", "is required")
    return DeploymentDraft(
        slug=slug,
        kind=DEPLOYMENT_KINDS[deployment.kind],
        display_name=deployment.display_name,
        description=deployment.description,
        salt=deployment.salt,
        variants=tuple(
            variant_draft(variant, f"deployment.variants[{index}]") for index, variant in enumerate(deployment.variants)
        ),
        is_protected=deployment.protected,
        routing=routing_draft(deployment.routing) if deployment.HasField("routing") else None,
    )


def variant_draft(variant: deployment_pb2.Variant, field: str) -> VariantDraft:
    """A variant to be made.

    :param field: its path in the request, for violations
    :raises Invalid: `SERVING_REQUIRED`, and as :func:`version_from_proto`
    """
    return VariantDraft(
        display_name=variant.display_name,
        notes=variant.notes,
        active=variant.active if variant.HasField("active") else None,
        weight=variant.weight if variant.HasField("weight") else None,
        serving=_serving_draft(variant, field),
    )


def _serving_draft(variant: deployment_pb2.Variant, field: str) -> ServingDraft:
    serving = variant.WhichOneof("serving")
    if serving is None:
        raise violated("SERVING_REQUIRED", f"{field}.serving", "must be completion or recommendation")
    if serving == "recommendation":
        recommendation = variant.recommendation
        return RecommendationDraft(recommendation.model, UNKNOWN_USERS[recommendation.unknown_users])
    completion = variant.completion
    return CompletionDraft(
        version=completion.version,
        new_version=version_from_proto(completion.new_version, field=f"{field}.completion.new_version")
        if completion.HasField("new_version")
        else None,
        max_retries=completion.max_retries,
        attempt_timeout=completion.attempt_timeout.ToTimedelta() if completion.HasField("attempt_timeout") else None,
        prompt=completion.prompt,
        execution=execution_from_proto(completion, field=f"{field}.completion"),
    )


def variant_change(variant: deployment_pb2.Variant, paths: Sequence[str]) -> VariantChange:
    """What UpdateVariant is to change.

    :param paths: of the update mask; none means whatever has a value
    :raises Invalid: `UPDATE_MASK_INVALID` for a path that is none, or one whose value is needed and absent
    """
    named = paths_named(variant, paths, _CHANGEABLE)
    given = {descriptor.name for descriptor, _ in variant.ListFields()}
    for path in named:
        if path not in given and path not in ("display_name", "notes"):
            raise violated("UPDATE_MASK_INVALID", "update_mask", f"names {path!r}, which has no value")
    return VariantChange(
        display_name=variant.display_name if "display_name" in named else None,
        notes=variant.notes if "notes" in named else None,
        active=variant.active if "active" in named else None,
        weight=variant.weight if "weight" in named else None,
        serving=_serving_draft(variant, "variant") if any(each in named for each in _SERVINGS) else None,
    )


def deployment_change(
    deployment: deployment_pb2.Deployment, paths: Sequence[str], *, is_draft: bool
) -> DeploymentChange:
    """What UpdateDeployment is to change.

    :param paths: as :func:`variant_change`
    :raises Invalid: `UPDATE_MASK_INVALID`, also for what no revision has, if it is to be a draft
    """
    named = paths_named(deployment, paths, _DEPLOYMENT_CHANGEABLE)
    if is_draft and (outside := [path for path in named if path not in _REVISED]):
        message = f"names {outside[0]!r}, which no draft holds; a draft changes {' and '.join(_REVISED)} alone"
        raise violated("UPDATE_MASK_INVALID", "update_mask", message)
    given = routing_draft(deployment.routing) if deployment.HasField("routing") else NO_ROUTING
    return DeploymentChange(
        display_name=deployment.display_name if "display_name" in named else None,
        description=deployment.description if "description" in named else None,
        salt=deployment.salt if "salt" in named else None,
        is_protected=deployment.protected if "protected" in named else None,
        routing=given if "routing" in named else None,
    )


def deployment_to_proto(deployment: Deployment, alias: str = "") -> deployment_pb2.Deployment:
    """As callers see it, through the alias `live`.

    :param alias: the one whose states are warned of; empty for all
    """
    live = deployment.live
    return deployment_pb2.Deployment(
        name=deployment.name,
        uid=deployment.uid,
        kind=DEPLOYMENT_KINDS_TO_PROTO[deployment.kind],
        display_name=deployment.display_name,
        description=deployment.description,
        variants=[variant_to_proto(deployment, variant) for variant in live.variants],
        salt=live.salt,
        routing=routing_to_proto(live),
        aliases=[
            deployment_pb2.Alias(
                alias=alias.alias,
                revision=deployment.revision(alias.revision).number,
                update_time=time_to_proto(alias.updated_at),
                contract=None if alias.contract is None else contract_to_proto(alias.contract),
            )
            for alias in deployment.aliases
        ],
        revision=live.number,
        warnings=domain.standing_warnings(deployment, alias),
        create_time=time_to_proto(deployment.record.created_at),
        update_time=time_to_proto(deployment.record.updated_at),
        creator=deployment.creator,
        etag=deployment.record.etag(deployment.uid),
        archived=deployment.archived_at is not None,
        protected=deployment.is_protected,
    )


def revision_to_proto(deployment: Deployment, revision: Revision) -> revision_pb2.Revision:
    """As callers see it."""
    return revision_pb2.Revision(
        name=f"{deployment.name}/revisions/{revision.number}",
        uid=revision.uid,
        number=revision.number,
        parent=revision.parent_number,
        description=revision.description,
        author=revision.author,
        create_time=time_to_proto(revision.created_at),
        draft=revision.is_draft,
        salt=revision.salt,
        variants=[variant_to_proto(deployment, variant) for variant in revision.variants],
        aliases=deployment.aliases_of(revision),
        routing=routing_to_proto(revision),
    )


def difference_to_proto(difference: Difference) -> revision_pb2.Difference:
    """As callers see it."""
    return revision_pb2.Difference(
        path=difference.path,
        kind=_DIFFERENCE_KINDS[difference.kind],
        before_json=difference.before_json,
        after_json=difference.after_json,
        sentence=difference.sentence,
    )


def variant_to_proto(deployment: Deployment, variant: Variant) -> deployment_pb2.Variant:
    """As callers see it."""
    proto = deployment_pb2.Variant(
        name=f"{deployment.name}/variants/{variant.slug}",
        uid=variant.uid,
        number=variant.number,
        slug=variant.slug,
        display_name=variant.display_name,
        notes=variant.notes,
        active=variant.active,
        weight=variant.weight,
        etag=deployment.record.etag(deployment.uid),
    )
    match variant.serving:
        case Completion(version, max_retries, timeout, prompt, execution):
            proto.completion.CopyFrom(execution_to_proto(execution))
            proto.completion.MergeFrom(
                deployment_pb2.CompletionVariant(
                    version=version,
                    prompt="" if prompt is None else prompt.label,
                    max_retries=max_retries,
                    attempt_timeout=duration(timeout),
                )
            )
        case Recommendation(model, unknown_users):
            proto.recommendation.model = model
            proto.recommendation.unknown_users = UNKNOWN_USERS_TO_PROTO[unknown_users]
    return proto
