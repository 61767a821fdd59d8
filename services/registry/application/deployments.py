"""Use cases of deployments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kit.paging import Page, page_request
from services.registry import domain
from services.registry.application.access import (
    MAX_ANSWER_BYTES,
    ListRequest,
    Written,
    bounded_page,
    caller_name,
    check_etag,
    find_project,
    remember,
    repeat_of,
)
from services.registry.application.changes import Changes, check_unprotected, find, find_for_change
from services.registry.application.contracts import Judge, write_judged
from services.registry.application.fallbacks import named_fallbacks, warnings_of
from services.registry.application.provider_models import ModelChecks
from services.registry.application.routing import FIELD, check_routing
from services.registry.application.variants import (
    check_kind,
    check_weights,
    made,
    new_content,
    resolve,
    wanted_versions,
)
from services.registry.domain import (
    Alias,
    Caller,
    Change,
    Deployment,
    DeploymentChange,
    DeploymentDraft,
    DeploymentSearch,
    Move,
    Record,
    Revision,
    Serving,
    Variant,
    missing,
)
from services.registry.ports import Store, Write, Writing

_CREATE = "CreateDeployment"


@dataclass(frozen=True, slots=True)
class Deployments:
    """The stable names, and what stands behind them."""

    store: Store
    changes: Changes
    model_checks: ModelChecks

    async def create_deployment(
        self,
        caller: Caller,
        project_segment: str,
        draft: DeploymentDraft,
        write_as: Write,
        *,
        skip_model_check: bool = False,
    ) -> Written[Deployment]:
        """A name with revision 1.0, to which the alias `live` points.

        :param skip_model_check: take models that their providers do not list
        :raises Exists: `DEPLOYMENT_EXISTS`
        :raises Invalid: `SLUG_INVALID`, `WEIGHT_INVALID`, `VARIANT_KIND_MISMATCH`, `CONTRACT_CONFLICT`, and as
            :func:`variants.resolve`, :func:`domain.check_routing` and :func:`domain.routing_of`
        """
        domain.check_slug(draft.slug, field="deployment_id")
        check_weights((f"{_field(index)}.weight", variant.weight) for index, variant in enumerate(draft.variants))
        for index, variant in enumerate(draft.variants):
            check_kind(draft.kind, variant.serving, field=_field(index))
        await check_routing(draft.routing)
        contents = [await new_content(variant.serving, field=_field(i)) for i, variant in enumerate(draft.variants)]
        wanted = [
            each
            for i, (variant, content) in enumerate(zip(draft.variants, contents, strict=True))
            for each in wanted_versions(variant.serving, content, field=_field(i))
        ]
        warnings = await self.model_checks.check(
            caller,
            project_segment,
            wanted,
            fallbacks=[
                each
                for i, variant in enumerate(draft.variants)
                for each in named_fallbacks(variant.serving, field=_field(i))
            ],
            deployment=draft.slug,
            skip=skip_model_check,
            write=write_as,
            rpc=_CREATE,
        )

        async def write(tx: Writing, judge: Judge) -> Written[Deployment]:
            project = await find_project(tx, caller, project_segment)
            if repeated := await repeat_of(tx, write_as, _CREATE, project):
                found = await tx.deployment(project, repeated)
                if found is None:
                    raise missing("deployment", f"{project.name}/deployments/{repeated}")
                return Written(found, found.record.changed_in)
            if await tx.deployment(project, draft.slug) is not None:
                # The constraint would say so too, but only after the work of storing versions.
                raise domain.exists("deployment", f"{project.name}/deployments/{draft.slug}")
            now, uid, author = self.changes.now(), self.changes.new_uid("dep"), caller_name(caller, project)
            resolved = [
                await resolve(tx, project, variant.serving, content, field=_field(index), now=self.changes.now)
                for index, (variant, content) in enumerate(zip(draft.variants, contents, strict=True))
            ]
            variants = await self._variants(tx, draft, [serving for serving, _ in resolved])
            new_uid, wanted_routing = self.changes.new_uid, draft.routing or domain.NO_ROUTING
            revision = Revision(
                uid=self.changes.new_uid("rev"),
                parent="",
                parent_number="",
                major=1,
                minor=0,
                salt=draft.salt or uid,
                author=author,
                description="",
                created_at=now,
                is_draft=False,
                variants=variants,
                routing=domain.routing_of(wanted_routing, variants, domain.WEIGHTS_ALONE, new_uid, field=FIELD),
            )
            name = f"{project.name}/deployments/{draft.slug}:{domain.LIVE}"
            move = Move(name, domain.promise_of(revision, [thing for _, thing in resolved]))
            contract, _ = await judge.answer(move, move.contract)
            deployment = Deployment(
                uid=uid,
                project=project,
                slug=draft.slug,
                kind=draft.kind,
                display_name=draft.display_name or draft.slug,
                description=draft.description,
                creator=author,
                aliases=(Alias(domain.LIVE, revision.uid, now, contract),),
                revisions=(revision,),
                archived_at=None,
                record=Record(now, now, tx.sequence, tx.sequence),
                is_protected=draft.is_protected,
            )
            await tx.add_deployment(deployment)
            await remember(tx, write_as, _CREATE, project, uid, now)
            used = {thing.uid: thing for _, thing in resolved}
            surprises = dict.fromkeys(each for serving, thing in resolved for each in warnings_of(serving, thing))
            await tx.announce([*used.values(), deployment])
            return Written(deployment, 0 if write_as.is_dry else tx.sequence, (*warnings, *surprises))

        return await write_judged(self.store, write, is_dry=write_as.is_dry)

    async def get_deployment(self, caller: Caller, project_segment: str, segment: str) -> Deployment:
        """:raises NotFound: `DEPLOYMENT_NOT_FOUND`"""
        async with self.store.reading() as tx:
            return await find(tx, caller, project_segment, segment)

    async def update_deployment(
        self, caller: Caller, project: str, deployment: str, wanted: DeploymentChange, change: Change
    ) -> Written[Deployment]:
        """Other texts, protected or not, or another salt or routing, which is a new revision.

        :raises NotFound: `DEPLOYMENT_NOT_FOUND`, `ALIAS_NOT_FOUND`
        :raises Invalid: as :func:`domain.check_routing` and :func:`domain.routing_of`
        :raises Denied: `APPROVAL_REQUIRED` to end the protection
        :raises Conflict: `ETAG_MISMATCH`
        """

        await check_routing(wanted.routing)

        async def write(tx: Writing, judge: Judge) -> Written[Deployment]:
            found = await find_for_change(tx, caller, project, deployment, etag=change.etag)
            texts = replace(
                found,
                display_name=found.display_name if wanted.display_name is None else wanted.display_name or found.slug,
                description=found.description if wanted.description is None else wanted.description,
                is_protected=found.is_protected if wanted.is_protected is None else wanted.is_protected,
            )
            if found.is_protected and not texts.is_protected:
                check_unprotected(found, caller, "be unprotected")
            salt = None if wanted.salt is None else wanted.salt or found.uid
            routing = None
            if wanted.routing is not None:
                base = found.pointed_to(change.alias)
                routing = domain.routing_of(
                    wanted.routing, base.variants, base.routing, self.changes.new_uid, field=FIELD
                )
            revised = await self.changes.revise(tx, judge, texts, change, caller, salt=salt, routing=routing)
            if revised.deployment is texts and texts != found:
                stored = await self.changes.store(tx, texts, announces=False)
                revised = replace(revised, deployment=stored)
            return revised.written(revised.deployment, change)

        return await write_judged(self.store, write, is_dry=change.is_dry)

    async def archive_deployment(
        self, caller: Caller, project: str, deployment: str, *, etag: str, archived: bool
    ) -> Written[Deployment]:
        """Take it out of service, or bring it back.

        :raises Denied: `APPROVAL_REQUIRED`
        :raises Conflict: `ETAG_MISMATCH`
        """
        async with self.store.writing() as tx:
            found = await find(tx, caller, project, deployment)
            check_etag(found, etag)
            if (found.archived_at is not None) is archived:
                return Written(found, found.record.changed_in)
            check_unprotected(found, caller, "be archived" if archived else "be unarchived")
            changed = replace(found, archived_at=self.changes.now() if archived else None)
            stored = await self.changes.store(tx, changed, before=found)
        return Written(stored, tx.sequence)

    async def list_deployments(
        self, caller: Caller, project_segment: str, request: ListRequest, search: DeploymentSearch
    ) -> Page[Deployment]:
        """A project's, those that are looked for, without the contracts of their aliases."""
        async with self.store.reading() as tx:
            project = await find_project(tx, caller, project_segment)
            subject = f"deployments of {project.uid}: {search}"
            shape = (int, str) if search.order.is_numeric else (str, str)
            asked = page_request(request.size, request.token, subject=subject, shape=shape)
            found, has_more = await tx.deployments(project, asked, search, max_bytes=MAX_ANSWER_BYTES)
        deployments = [deployment for deployment, _ in found]
        return bounded_page(deployments, found[-1][1] if has_more else (), subject, has_more=has_more)

    async def _variants(self, tx: Writing, draft: DeploymentDraft, servings: Sequence[Serving]) -> tuple[Variant, ...]:
        numbers = await tx.next_number("variant", len(servings)) if servings else 0
        variants: list[Variant] = []
        for index, (each, serving) in enumerate(zip(draft.variants, servings, strict=True)):
            variants.append(
                made(
                    each,
                    serving,
                    uid=self.changes.new_uid("var"),
                    number=numbers + index,
                    kind=draft.kind,
                    position=index + 1,
                    taken=[variant.slug for variant in variants],
                )
            )
        return tuple(variants)


def _field(index: int) -> str:
    return f"deployment.variants[{index}]"
