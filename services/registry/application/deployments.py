"""Use cases of deployments."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from kit.errors import Invalid, Violation
from kit.paging import Page
from services.registry import domain
from services.registry.application.access import (
    ListRequest,
    Written,
    caller_name,
    find_project,
    found_page,
    remember,
    repeat_of,
    requested_page,
)
from services.registry.application.versions import completed, put
from services.registry.domain import (
    Alias,
    Caller,
    Completion,
    Deployment,
    DeploymentDraft,
    Project,
    Record,
    Revision,
    Variant,
    VariantDraft,
    Version,
    missing,
    violated,
)
from services.registry.ports import Clock, NewUid, Store, Write, Writing

_CREATE = "CreateDeployment"


@dataclass(frozen=True, slots=True)
class Deployments:
    """The stable names, and what stands behind them."""

    store: Store
    now: Clock
    new_uid: NewUid

    async def create_deployment(
        self, caller: Caller, project_segment: str, draft: DeploymentDraft, write: Write
    ) -> Written[Deployment]:
        """A name with revision 1.0, to which the alias `live` points.

        :raises Exists: `DEPLOYMENT_EXISTS`
        :raises Invalid: `SLUG_INVALID`, `WEIGHT_INVALID`, `VERSION_NOT_FOUND`, and as :func:`versions.put`
        """
        domain.check_slug(draft.slug, field="deployment_id")
        _check_weights(draft.variants)
        new_versions = {
            index: completed(variant.new_version, field=f"{_field(index)}.new_version")
            for index, variant in enumerate(draft.variants)
            if variant.new_version is not None
        }
        async with self.store.writing(is_dry=write.is_dry) as tx:
            project = await find_project(tx, caller, project_segment)
            if repeated := await repeat_of(tx, write, _CREATE, project):
                found = await tx.deployment(project, repeated)
                if found is None:
                    raise missing("deployment", f"{project.name}/deployments/{repeated}")
                return Written(found, found.record.changed_in)
            if await tx.deployment(project, draft.slug) is not None:
                # The constraint would say so too, but only after the work of storing versions.
                raise domain.exists("deployment", f"{project.name}/deployments/{draft.slug}")
            now, uid, author = self.now(), self.new_uid("dep"), caller_name(caller, project)
            versions = [
                await put(tx, project, new_versions[index], field=f"{_field(index)}.new_version", now=now)
                if index in new_versions
                else await self._version(tx, project, variant.version, f"{_field(index)}.version")
                for index, variant in enumerate(draft.variants)
            ]
            revision = Revision(
                uid=self.new_uid("rev"),
                major=1,
                minor=0,
                salt=draft.salt or uid,
                author=author,
                created_at=now,
                variants=await self._variants(tx, draft.variants, versions),
            )
            deployment = Deployment(
                uid=uid,
                project=project,
                slug=draft.slug,
                kind=draft.kind,
                display_name=draft.display_name or draft.slug,
                description=draft.description,
                creator=author,
                aliases=(Alias(domain.LIVE, revision.uid, now),),
                revisions=(revision,),
                record=Record(now, now, tx.sequence, tx.sequence),
            )
            await tx.add_deployment(deployment)
            await remember(tx, write, _CREATE, project, uid, now)
            await tx.announce([*_distinct(versions), deployment])
        return Written(deployment, 0 if write.is_dry else tx.sequence)

    async def get_deployment(self, caller: Caller, project_segment: str, segment: str) -> Deployment:
        """:raises NotFound: `DEPLOYMENT_NOT_FOUND`"""
        async with self.store.reading() as tx:
            project = await find_project(tx, caller, project_segment)
            found = await tx.deployment(project, segment)
            if found is None:
                raise missing("deployment", f"projects/{project_segment}/deployments/{segment}")
            return found

    async def list_deployments(self, caller: Caller, project_segment: str, request: ListRequest) -> Page[Deployment]:
        """A project's, oldest first."""
        async with self.store.reading() as tx:
            project = await find_project(tx, caller, project_segment)
            subject = f"deployments of {project.uid}"
            asked = requested_page(request, subject)
            return found_page(list(await tx.deployments(project, asked)), asked, subject)

    async def _version(self, tx: Writing, project: Project, given: str, field: str) -> Version:
        """By uid or resource name."""
        *parent, uid = given.split("/")
        names = [["projects", each, "versions"] for each in (project.slug, project.uid, str(project.number))]
        found = await tx.version(project, uid) if parent in ([], *names) else None
        if found is None:
            raise violated("VERSION_NOT_FOUND", field, "there is no such version in this project")
        return found

    async def _variants(
        self, tx: Writing, drafts: tuple[VariantDraft, ...], versions: list[Version]
    ) -> tuple[Variant, ...]:
        numbers = await tx.next_number("variant", len(drafts)) if drafts else 0
        variants: list[Variant] = []
        for index, (draft, version) in enumerate(zip(drafts, versions, strict=True)):
            position = index + 1
            name = draft.display_name or f"Variant {position}"
            variants.append(
                Variant(
                    uid=self.new_uid("var"),
                    number=numbers + index,
                    slug=domain.variant_slug(name, position, [variant.slug for variant in variants]),
                    display_name=name,
                    notes=draft.notes,
                    active=True if draft.active is None else draft.active,
                    weight=domain.default_weight(position) if draft.weight is None else draft.weight,
                    completion=Completion(version.uid, draft.max_retries, draft.attempt_timeout),
                )
            )
        return tuple(variants)


def _field(index: int) -> str:
    return f"deployment.variants[{index}].completion"


def _check_weights(drafts: Iterable[VariantDraft]) -> None:
    wrong = [
        Violation(f"deployment.variants[{index}].weight", "must be a number from 0 to 100")
        for index, draft in enumerate(drafts)
        if draft.weight is not None and not (math.isfinite(draft.weight) and 0 <= draft.weight <= 100)
    ]
    if wrong:
        raise Invalid(f"{wrong[0].field} {wrong[0].message}", reason="WEIGHT_INVALID", violations=wrong)


def _distinct(versions: Iterable[Version]) -> list[Version]:
    return list({version.uid: version for version in versions}.values())
