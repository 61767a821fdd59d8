"""What variants serve, and use cases of single variants."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from completions.version import Version as Content
from kit.errors import Invalid, NotFound, Violation
from services.registry import domain
from services.registry.application.access import Written, caller_name, find_project
from services.registry.application.versions import completed, put
from services.registry.domain import (
    Alias,
    Caller,
    Completion,
    CompletionDraft,
    Deployment,
    DeploymentKind,
    Model,
    Project,
    Recommendation,
    Revision,
    Serving,
    ServingDraft,
    Variant,
    VariantChange,
    Version,
    missing,
    violated,
)
from services.registry.ports import Clock, NewUid, Reading, Store, Writing

Used: TypeAlias = Version | Model
"""What a variant runs, as a thing of the catalog."""


@dataclass(frozen=True, slots=True)
class Variants:
    """The ways to serve a deployment, one by one."""

    store: Store
    now: Clock
    new_uid: NewUid

    async def update_variant(
        self,
        caller: Caller,
        name: tuple[str, str, str],
        change: VariantChange,
        *,
        alias: str,
        etag: str,
        is_dry: bool = False,
    ) -> Written[tuple[Deployment, Variant]]:
        """A revision with one variant changed, to which `alias` moves; nothing if that changes nothing.

        :param name: segments of project, deployment (slug or uid) and variant (slug, uid or number)
        :param alias: the one that moves; empty for `live`
        :param etag: the deployment's as the caller knows it; empty for whatever it is now
        :raises NotFound: `DEPLOYMENT_NOT_FOUND`, `ALIAS_NOT_FOUND`, `VARIANT_NOT_FOUND`
        :raises Conflict: `ETAG_MISMATCH`
        :raises Invalid: `WEIGHT_INVALID`, `VARIANT_KIND_MISMATCH`, `VERSION_NOT_FOUND`, `MODEL_NOT_FOUND`
        """
        check_weights([("variant.weight", change.weight)])
        content = None if change.serving is None else new_content(change.serving, field="variant")
        async with self.store.writing(is_dry=is_dry) as tx:
            project = await find_project(tx, caller, name[0])
            deployment = await tx.deployment(project, name[1])
            if deployment is None:
                raise missing("deployment", f"{project.name}/deployments/{name[1]}")
            if etag and etag != deployment.record.etag(deployment.uid):
                raise domain.changed_since(deployment.name)
            base = _pointed_to(deployment, alias or domain.LIVE)
            former = _find(deployment, base, name[2])
            variant, used = await self._changed(tx, deployment, former, change, content)
            if variant == former:
                return Written((deployment, former), deployment.record.changed_in)
            revision = await self._next(tx, deployment, base, variant, change, caller_name(caller, project))
            moved = _moved(deployment, alias or domain.LIVE, revision, tx.sequence)
            await tx.add_revision(moved, revision)
            await tx.move_alias(moved, alias or domain.LIVE)
            gone = [] if used is None else await tx.unused(project, await _things_of(tx, project, former.serving))
            await tx.announce([*([used] if used is not None else ()), moved], gone)
        return Written((moved, variant), 0 if is_dry else tx.sequence)

    async def _changed(
        self, tx: Writing, deployment: Deployment, former: Variant, change: VariantChange, content: Content | None
    ) -> tuple[Variant, Used | None]:
        serving, used = former.serving, None
        if change.serving is not None:
            check_kind(deployment.kind, change.serving, field="variant")
            serving, used = await resolve(
                tx, deployment.project, change.serving, content, field="variant", now=self.now
            )
        changed = replace(
            former,
            display_name=former.display_name if change.display_name is None else change.display_name or former.slug,
            notes=former.notes if change.notes is None else change.notes,
            active=former.active if change.active is None else change.active,
            weight=former.weight if change.weight is None else change.weight,
            serving=serving,
        )
        return changed, used

    async def _next(
        self,
        tx: Writing,
        deployment: Deployment,
        base: Revision,
        variant: Variant,
        change: VariantChange,
        author: str,
    ) -> Revision:
        if change.is_minor:
            major, minor = base.major, await tx.next_minor(deployment, base.major)
        else:
            major, minor = await tx.next_major(deployment), 0
        return replace(
            base,
            uid=self.new_uid("rev"),
            parent=base.uid,
            major=major,
            minor=minor,
            author=author,
            created_at=self.now(),
            variants=tuple(variant if each.uid == variant.uid else each for each in base.variants),
        )


def check_weights(weights: Iterable[tuple[str, float | None]]) -> None:
    """:raises Invalid: `WEIGHT_INVALID`, with every field whose weight is none"""
    wrong = [
        Violation(field, "must be a number from 0 to 100")
        for field, weight in weights
        if weight is not None and not (math.isfinite(weight) and 0 <= weight <= 100)
    ]
    if wrong:
        raise Invalid(f"{wrong[0].field} {wrong[0].message}", reason="WEIGHT_INVALID", violations=wrong)


def check_kind(kind: DeploymentKind, draft: ServingDraft, *, field: str) -> None:
    """:raises Invalid: `VARIANT_KIND_MISMATCH` if such a deployment cannot have such a variant"""
    given = DeploymentKind.COMPLETION if isinstance(draft, CompletionDraft) else DeploymentKind.RECOMMENDATION
    if given is not kind:
        raise violated("VARIANT_KIND_MISMATCH", f"{field}.{given}", f"is not what a {kind} deployment serves")


def new_content(draft: ServingDraft, *, field: str) -> Content | None:
    """The complete configuration of a new version, if the draft has one: costs milliseconds, so it comes before the
    transaction.

    :raises Invalid: as :func:`versions.completed`
    """
    if not isinstance(draft, CompletionDraft) or draft.new_version is None:
        return None
    return completed(draft.new_version, field=f"{field}.completion.new_version")


async def resolve(
    tx: Writing, project: Project, draft: ServingDraft, content: Content | None, *, field: str, now: Clock
) -> tuple[Serving, Used]:
    """What a variant serves, and the thing that it uses for it.

    :param content: from :func:`new_content`
    :param field: path of the variant in the request, for violations
    :raises Invalid: `VERSION_NOT_FOUND`, `MODEL_NOT_FOUND`, and as :func:`versions.put`
    """
    if not isinstance(draft, CompletionDraft):
        model = await tx.model(project, _segment(project, "models", draft.model))
        if model is None:
            raise violated("MODEL_NOT_FOUND", f"{field}.recommendation.model", "there is no such model in this project")
        return Recommendation(model.uid, draft.unknown_users), model
    if content is not None:
        version = await put(tx, project, content, field=f"{field}.completion.new_version", now=now())
    else:
        found = await tx.version(project, _segment(project, "versions", draft.version))
        if found is None:
            raise violated(
                "VERSION_NOT_FOUND", f"{field}.completion.version", "there is no such version in this project"
            )
        version = found
    return Completion(version.uid, draft.max_retries, draft.attempt_timeout), version


def _segment(project: Project, collection: str, given: str) -> str:
    """The last segment of a name in this project; of any other, one that names nothing."""
    *parent, last = given.split("/")
    names = [["projects", each, collection] for each in (project.slug, project.uid, str(project.number))]
    return last if parent in ([], *names) else ""


async def _things_of(tx: Reading, project: Project, serving: Serving) -> list[Used]:
    thing: Used | None
    if isinstance(serving, Completion):
        thing = await tx.version(project, serving.version)
    else:
        thing = await tx.model(project, serving.model)
    return [] if thing is None else [thing]


def _pointed_to(deployment: Deployment, alias: str) -> Revision:
    for each in deployment.aliases:
        if each.alias == alias:
            return deployment.revision(each.revision)
    raise NotFound(
        f"{deployment.name} has no alias {alias!r}", reason="ALIAS_NOT_FOUND", resource=deployment.name, alias=alias
    )


def _find(deployment: Deployment, revision: Revision, segment: str) -> Variant:
    for variant in revision.variants:
        if segment in (variant.slug, variant.uid, str(variant.number)):
            return variant
    raise missing("variant", f"{deployment.name}/variants/{segment}")


def _moved(deployment: Deployment, alias: str, revision: Revision, sequence: int) -> Deployment:
    now = revision.created_at
    aliases = tuple(Alias(alias, revision.uid, now) if each.alias == alias else each for each in deployment.aliases)
    known = {each.uid: each for each in (*deployment.revisions, revision)}
    return replace(
        deployment,
        aliases=aliases,
        revisions=tuple(known[uid] for uid in dict.fromkeys(each.revision for each in aliases)),
        record=replace(deployment.record, updated_at=now, changed_in=sequence),
    )
