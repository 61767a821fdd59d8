"""What variants serve, and use cases of single variants."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from kit.errors import Violation
from services.registry import domain
from services.registry.application import provenance
from services.registry.application.access import Written, find_project, remember, repeat_of, segment_in
from services.registry.application.archives import check_not_archived
from services.registry.application.changes import Changes, find, find_for_change
from services.registry.application.configurations import Complete, identified
from services.registry.application.contracts import Judge, write_judged
from services.registry.application.fallbacks import check_fallbacks, named_fallbacks, resolved, warnings_of
from services.registry.application.provider_models import ModelChecks, Wanted
from services.registry.application.routing import check_unused
from services.registry.application.versions import put, seen
from services.registry.domain import (
    Caller,
    Change,
    ChangeRequestState,
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
    VariantDraft,
    Version,
    missing,
    violated,
)
from services.registry.ports import Clock, Reading, Store, Write, Writing

_CREATE: Final = "CreateVariant"
_ONCE: Final = Write()
"""What no request id makes repeatable."""

Used: TypeAlias = Version | Model
"""What a variant runs, as a thing of the catalog."""


@dataclass(frozen=True, slots=True)
class Variants:
    """The ways to serve a deployment, one by one."""

    store: Store
    changes: Changes
    model_checks: ModelChecks

    async def create_variant(
        self,
        caller: Caller,
        project: str,
        deployment: str,
        draft: VariantDraft,
        change: Change,
        write_as: Write,
        *,
        skip_model_check: bool = False,
    ) -> Written[tuple[Deployment, Variant]]:
        """A revision with one variant more.

        :param skip_model_check: take a model that its provider does not list
        :raises NotFound: `DEPLOYMENT_NOT_FOUND`, `ALIAS_NOT_FOUND`
        :raises Conflict: `ETAG_MISMATCH`
        :raises Precondition: `CONTRACT_BROKEN`
        :raises Invalid: `WEIGHT_INVALID`, `VARIANT_KIND_MISMATCH`, `TOO_MANY_VARIANTS`, and as :func:`resolve`
        """
        check_weights([("variant.weight", draft.weight)])
        content = await new_content(draft.serving, field="variant")
        warnings = await self._check_models(
            caller, project, deployment, draft.serving, content, skip=skip_model_check, write=write_as
        )

        async def write(tx: Writing, judge: Judge) -> Written[tuple[Deployment, Variant]]:
            if repeated := await repeat_of(tx, write_as, _CREATE, await find_project(tx, caller, project)):
                found = await find(tx, caller, project, deployment)
                return await self._repeated(tx, found, repeated)
            found = await find_for_change(tx, caller, project, deployment, etag=change.etag)
            check_kind(found.kind, draft.serving, field="variant")
            base = found.pointed_to(change.alias)
            if len(base.variants) >= domain.MAX_VARIANTS:
                raise violated("TOO_MANY_VARIANTS", "variant", f"would be one more than {domain.MAX_VARIANTS}")
            serving, used = await resolve(
                tx, found.project, draft.serving, content, field="variant", now=self.changes.now
            )
            slugs = await tx.variant_slugs(found)
            variant = made(
                draft,
                serving,
                uid=self.changes.new_uid("var"),
                number=await tx.next_number("variant"),
                kind=found.kind,
                position=len(slugs) + 1,
                taken=slugs,
            )
            await tx.add_variant(found, variant)
            await remember(tx, write_as, _CREATE, found.project, variant.uid, self.changes.now())
            revised = await self.changes.revise(tx, judge, found, change, caller, variants=(*base.variants, variant))
            written = revised.written((revised.deployment, variant), change)
            return written.warned((*warnings, *warnings_of(serving, used)))

        return await write_judged(self.store, write, is_dry=change.is_dry)

    async def update_variant(
        self,
        caller: Caller,
        name: tuple[str, str, str],
        wanted: VariantChange,
        change: Change,
        *,
        skip_model_check: bool = False,
    ) -> Written[tuple[Deployment, Variant]]:
        """A revision with one variant changed; none if that changes nothing.

        :param name: segments of project, deployment (slug or uid) and variant (slug, uid or number)
        :param skip_model_check: take a model that its provider does not list
        :raises NotFound: `DEPLOYMENT_NOT_FOUND`, `ALIAS_NOT_FOUND`, `VARIANT_NOT_FOUND`
        :raises Conflict: `ETAG_MISMATCH`
        :raises Invalid: `WEIGHT_INVALID`, `VARIANT_KIND_MISMATCH`, and as :func:`resolve`
        """
        check_weights([("variant.weight", wanted.weight)])
        content = None if wanted.serving is None else await new_content(wanted.serving, field="variant")
        warnings: tuple[str, ...] = ()
        if wanted.serving is not None:
            warnings = await self._check_models(
                caller, name[0], name[1], wanted.serving, content, skip=skip_model_check
            )

        async def write(tx: Writing, judge: Judge) -> Written[tuple[Deployment, Variant]]:
            deployment = await find_for_change(tx, caller, name[0], name[1], etag=change.etag)
            base = deployment.pointed_to(change.alias)
            former = find_variant(deployment, base, name[2])
            serving, surprises = former.serving, warnings
            if wanted.serving is not None:
                check_kind(deployment.kind, wanted.serving, field="variant")
                serving, used = await resolve(
                    tx, deployment.project, wanted.serving, content, field="variant", now=self.changes.now
                )
                surprises = (*warnings, *warnings_of(serving, used))
            variant = _changed(former, wanted, serving)
            variants = [variant if each.uid == variant.uid else each for each in base.variants]
            revised = await self.changes.revise(tx, judge, deployment, change, caller, variants=variants)
            return revised.written((revised.deployment, variant), change).warned(surprises)

        return await write_judged(self.store, write, is_dry=change.is_dry)

    async def _check_models(
        self,
        caller: Caller,
        project: str,
        deployment: str,
        draft: ServingDraft,
        content: Complete | None,
        *,
        skip: bool,
        write: Write = _ONCE,
    ) -> tuple[str, ...]:
        return await self.model_checks.check(
            caller,
            project,
            wanted_versions(draft, content, field="variant"),
            fallbacks=named_fallbacks(draft, field="variant"),
            deployment=deployment,
            skip=skip,
            write=write,
            rpc=_CREATE,
        )

    async def _repeated(self, tx: Reading, deployment: Deployment, uid: str) -> Written[tuple[Deployment, Variant]]:
        """What the request made, as it made it: live, as a draft, or as a wish that waits."""
        revision = await tx.first_revision_with(deployment, uid)
        if revision is None:
            raise missing("variant", f"{deployment.name}/variants/{uid}")
        [variant] = [each for each in revision.variants if each.uid == uid]
        request = await tx.change_request_for(deployment, revision)
        is_pending = request is not None and request.state_at(self.changes.now()) is ChangeRequestState.PENDING
        return Written(
            (deployment, variant),
            deployment.record.changed_in,
            change_request=request.name if request is not None and is_pending else "",
        )

    async def delete_variant(self, caller: Caller, name: tuple[str, str, str], change: Change) -> Written[Deployment]:
        """A revision with one variant less.

        :raises NotFound: as :meth:`update_variant`
        :raises Precondition: `VARIANT_IN_USE`
        :raises Conflict: `ETAG_MISMATCH`
        """

        async def write(tx: Writing, judge: Judge) -> Written[Deployment]:
            deployment = await find_for_change(tx, caller, name[0], name[1], etag=change.etag)
            base = deployment.pointed_to(change.alias)
            gone = find_variant(deployment, base, name[2])
            check_unused(deployment, base, gone)
            variants = [each for each in base.variants if each.uid != gone.uid]
            revised = await self.changes.revise(tx, judge, deployment, change, caller, variants=variants)
            return revised.written(revised.deployment, change)

        return await write_judged(self.store, write, is_dry=change.is_dry)


def made(
    draft: VariantDraft,
    serving: Serving,
    *,
    uid: str,
    number: int,
    kind: DeploymentKind,
    position: int,
    taken: Sequence[str],
) -> Variant:
    """A new variant with its defaults.

    :param position: 1 for a deployment's first, 2 for its second …
    :param taken: slugs of its others
    """
    name = draft.display_name or f"Variant {position}"
    return Variant(
        uid=uid,
        number=number,
        slug=domain.variant_slug(name, position, taken),
        display_name=name,
        notes=draft.notes,
        active=True if draft.active is None else draft.active,
        weight=domain.default_weight(kind, position) if draft.weight is None else draft.weight,
        serving=serving,
    )


def _changed(former: Variant, wanted: VariantChange, serving: Serving) -> Variant:
    return replace(
        former,
        display_name=former.display_name if wanted.display_name is None else wanted.display_name or former.slug,
        notes=former.notes if wanted.notes is None else wanted.notes,
        active=former.active if wanted.active is None else wanted.active,
        weight=former.weight if wanted.weight is None else wanted.weight,
        serving=provenance.kept(former.serving, serving),
    )


def check_weights(weights: Iterable[tuple[str, float | None]]) -> None:
    """:raises Invalid: `WEIGHT_INVALID`, with every field whose weight is none"""
    wrong = [
        Violation(field, "must be a number from 0 to 100")
        for field, weight in weights
        if weight is not None and not (math.isfinite(weight) and 0 <= weight <= 100)
    ]
    if wrong:
        raise domain.all_violated("WEIGHT_INVALID", wrong)


def check_kind(kind: DeploymentKind, draft: ServingDraft, *, field: str) -> None:
    """:raises Invalid: `VARIANT_KIND_MISMATCH` if such a deployment cannot have such a variant"""
    given = DeploymentKind.COMPLETION if isinstance(draft, CompletionDraft) else DeploymentKind.RECOMMENDATION
    if given is not kind:
        raise violated("VARIANT_KIND_MISMATCH", f"{field}.{given}", f"is not what a {kind} deployment serves")


async def new_content(draft: ServingDraft, *, field: str) -> Complete | None:
    """The configuration of a new version, if the draft has one, whose fallbacks are found to be well-formed.
    Comes before the transaction: others wait for that.

    :raises Invalid: `PROMPT_AND_MESSAGES`, and as :func:`configurations.completed` and
        :func:`fallbacks.check_fallbacks`
    """
    check_fallbacks(draft, field=field)
    if not isinstance(draft, CompletionDraft) or draft.new_version is None:
        return None
    if draft.prompt:
        provenance.check_has_no_messages(draft.new_version, field=f"{field}.completion.new_version")
    # In a thread: large templates and schemas take some 100 ms.
    return await asyncio.to_thread(identified, draft.new_version, field=f"{field}.completion.new_version")


def wanted_versions(draft: ServingDraft, content: Complete | None, *, field: str) -> list[Wanted]:
    """A variant's new version, if it is to have one, for its model to be checked.

    :param content: from :func:`new_content`
    :param field: path of the variant in the request
    """
    if content is None or not isinstance(draft, CompletionDraft):
        return []
    return [Wanted(f"{field}.completion.new_version", content, draft.prompt)]


async def resolve(
    tx: Writing, project: Project, draft: ServingDraft, content: Complete | None, *, field: str, now: Clock
) -> tuple[Serving, Used]:
    """What a variant serves, and the thing that it uses for it.

    :param content: from :func:`new_content`
    :param field: path of the variant in the request, for violations
    :raises Invalid: `VERSION_NOT_FOUND`, `MODEL_NOT_FOUND`, `PROMPT_NOT_FOUND`, `PROMPT_MISMATCH`, and as
        :func:`versions.put` and :func:`fallbacks.resolved`
    :raises Precondition: `PROMPT_ARCHIVED`, `PROVIDER_ARCHIVED`, `MODEL_ARCHIVED`
    """
    if not isinstance(draft, CompletionDraft):
        model = await tx.model(project, segment_in(project, "models", draft.model))
        if model is None:
            raise violated("MODEL_NOT_FOUND", f"{field}.recommendation.model", "there is no such model in this project")
        await check_not_archived(tx, project, [model])
        return Recommendation(model.uid, draft.unknown_users), model
    prompt = None
    if draft.prompt:
        prompt = await provenance.find_prompt(
            tx, project, segment_in(project, "prompts", draft.prompt), field=f"{field}.completion.prompt"
        )
    if content is not None:
        if prompt is not None:
            content = await provenance.filled(content, prompt, field=f"{field}.completion.new_version")
        version = await put(tx, project, content, field=f"{field}.completion.new_version", now=now())
    else:
        found = await tx.version(project, segment_in(project, "versions", draft.version))
        if found is None:
            raise violated(
                "VERSION_NOT_FOUND", f"{field}.completion.version", "there is no such version in this project"
            )
        if prompt is not None:
            provenance.check_made_from(found, prompt, field=f"{field}.completion.prompt")
        version = await seen(tx, found, now())
    await check_not_archived(tx, project, [version])
    execution = await resolved(tx, project, draft, field=field)
    made_from = None if prompt is None else prompt.use
    return Completion(version.uid, draft.max_retries, draft.attempt_timeout, made_from, execution), version


def find_variant(deployment: Deployment, revision: Revision, segment: str) -> Variant:
    """By slug, uid or number.

    :raises NotFound: `VARIANT_NOT_FOUND`
    """
    for variant in revision.variants:
        if segment in (variant.slug, variant.uid, str(variant.number)):
            return variant
    raise missing("variant", f"{deployment.name}/variants/{segment}")
