"""How a deployment changes: from the revision that an alias points to, a new one, to which that alias moves; or, where
it is protected, to which somebody else lets it move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

from completions.contract import Contract
from kit.errors import Precondition
from services.registry import domain
from services.registry.application.access import Written, caller_name, check_etag, find_project
from services.registry.application.archives import check_not_archived
from services.registry.application.contracts import Judge
from services.registry.application.fallbacks import check_fallbacks_not_archived
from services.registry.domain import (
    Bump,
    Caller,
    Change,
    ChangeRequest,
    Deployment,
    Move,
    Promise,
    Revision,
    Routing,
    Variant,
    missing,
)
from services.registry.ports import Clock, NewUid, Reading, Writing

T = TypeVar("T")


async def find(tx: Reading, caller: Caller, project_segment: str, segment: str) -> Deployment:
    """:raises NotFound: `PROJECT_NOT_FOUND`, `DEPLOYMENT_NOT_FOUND`"""
    project = await find_project(tx, caller, project_segment)
    found = await tx.deployment(project, segment)
    if found is None:
        raise missing("deployment", f"projects/{project_segment}/deployments/{segment}")
    return found


async def find_for_change(tx: Writing, caller: Caller, project_segment: str, segment: str, *, etag: str) -> Deployment:
    """
    :raises NotFound: as :func:`find`
    :raises Precondition: `DEPLOYMENT_ARCHIVED`
    :raises Conflict: `ETAG_MISMATCH`
    """
    found = await find(tx, caller, project_segment, segment)
    if found.archived_at is not None:
        raise Precondition(
            f"{found.name} is archived; unarchive it to change it", reason="DEPLOYMENT_ARCHIVED", resource=found.name
        )
    check_etag(found, etag)
    return found


@dataclass(frozen=True, slots=True)
class Revised:
    """What a change came to."""

    deployment: Deployment
    revision: Revision
    """What the change amounts to, be it published, a draft, or waiting for approval."""
    warnings: tuple[str, ...] = ()
    """What callers may notice."""
    change_request: str = ""
    """The name of the request that waits for approval; empty if the change was done."""

    def written(self, value: T, change: Change) -> Written[T]:
        """As the use case answers it."""
        sequence = 0 if change.is_dry else self.deployment.record.changed_in
        # Of what an alias points to, the answer itself tells.
        states = domain.warnings(self.revision) if self.revision.is_draft else ()
        told = (*self.warnings, *(f"revision {self.revision.number}: {each}" for each in states))
        return Written(value, sequence, told, "" if change.is_dry else self.change_request)


@dataclass(frozen=True, slots=True)
class Changes:
    """Makes revisions, and points aliases to them."""

    now: Clock
    new_uid: NewUid
    approval_time: timedelta = timedelta(days=7)
    """How long a change request can be approved."""

    async def revise(
        self,
        tx: Writing,
        judge: Judge,
        deployment: Deployment,
        change: Change,
        caller: Caller,
        *,
        variants: Sequence[Variant] | None = None,
        salt: str | None = None,
        routing: Routing | None = None,
    ) -> Revised:
        """The deployment after a new revision, which differs from the change's base in what is given; none if that is
        nothing. Ends the transaction's work: it announces. Within :func:`write_judged`.

        :raises NotFound: `ALIAS_NOT_FOUND`
        :raises Invalid: `CONTRACT_CONFLICT`, `CONTRACT_TOO_LARGE`
        :raises Precondition: `CONTRACT_BROKEN`
        """
        base = deployment.pointed_to(change.alias)
        wanted = replace(
            base,
            variants=base.variants if variants is None else tuple(variants),
            salt=base.salt if salt is None else salt,
            routing=base.routing if routing is None else routing,
        )
        if wanted == base:
            return Revised(deployment, base)
        bump = change.bump or domain.bump_of(base, wanted)
        is_minor = bump is Bump.MINOR
        waits = not change.is_draft and _needs_approval(deployment, caller)
        revision = replace(
            wanted,
            uid=self.new_uid("rev"),
            parent=base.uid,
            parent_number=base.number,
            major=base.major if is_minor else await tx.next_major(deployment),
            minor=await tx.next_minor(deployment, base.major) if is_minor else 0,
            author=caller_name(caller, deployment.project),
            description=change.description,
            created_at=self.now(),
            is_draft=change.is_draft or waits,
        )
        await tx.add_revision(deployment, revision)
        if change.is_draft:
            # Whether it suits an alias is found out when it is published; whether its variants suit each other, now.
            promise = await _promise(tx, deployment, revision)
            await judge.answer(promise, promise.contract)
            return Revised(await self.store(tx, deployment, announces=False), revision)
        return await self.point(tx, judge, deployment, revision, change, caller)

    async def point(
        self, tx: Writing, judge: Judge, deployment: Deployment, revision: Revision, change: Change, caller: Caller
    ) -> Revised:
        """The deployment with the change's alias, new or there already, at a revision that is stored; or with a request
        that somebody approves it, where it is protected and the caller may not change it. Announces. Within
        :func:`write_judged`.

        :raises Invalid: as :meth:`revise`
        :raises Precondition: `CONTRACT_BROKEN`, `TOO_MANY_ALIASES`
        """
        if deployment.alias(change.alias) is None and len(deployment.aliases) >= domain.MAX_ALIASES:
            raise Precondition(
                f"{deployment.name} has {domain.MAX_ALIASES} aliases; delete one first",
                reason="TOO_MANY_ALIASES",
                resource=deployment.name,
            )
        contract, warnings = await self._contract(tx, judge, deployment, revision, change)
        if _needs_approval(deployment, caller):
            request = self._request(tx, deployment, revision, change, caller)
            await tx.add_change_request(request)
            stored = await self.store(tx, deployment, announces=False)
            return Revised(stored, revision, warnings, request.name)
        published = replace(revision, is_draft=False)
        moved = deployment.moved(change.alias, published, self.now(), contract)
        return Revised(await self.store(tx, moved, before=deployment), published, warnings)

    @staticmethod
    async def _contract(
        tx: Writing, judge: Judge, deployment: Deployment, revision: Revision, change: Change
    ) -> tuple[Contract | None, tuple[str, ...]]:
        """What the alias holds after it moved, and what its callers may notice."""
        move = Move(f"{deployment.name}:{change.alias}", await _promise(tx, deployment, revision))
        if (alias := deployment.alias(change.alias)) is not None:
            base = await _promise(tx, deployment, deployment.revision(alias.revision))
            move = replace(move, base=base, held=alias.contract, retains=change.retains_contract)
        return await judge.answer(move, move.contract)

    def _request(
        self, tx: Writing, deployment: Deployment, revision: Revision, change: Change, caller: Caller
    ) -> ChangeRequest:
        alias = deployment.alias(change.alias)
        base = None if alias is None else deployment.revision(alias.revision)
        now = self.now()
        return ChangeRequest(
            uid=self.new_uid("chg"),
            deployment=deployment.uid,
            deployment_name=deployment.name,
            alias=change.alias,
            base="" if base is None else base.uid,
            base_number="" if base is None else base.number,
            revision=revision.uid,
            revision_number=revision.number,
            retains_contract=change.retains_contract,
            description=change.description,
            author=caller_name(caller, deployment.project),
            created_at=now,
            expires_at=now + self.approval_time,
            created_in=tx.sequence,
        )

    async def store(
        self, tx: Writing, deployment: Deployment, *, before: Deployment | None = None, announces: bool = True
    ) -> Deployment:
        """Write another state of a deployment and announce it, with what comes into use by it and what goes out.

        :param before: its former state, if its aliases pointed elsewhere
        :param announces: whether followers see a difference
        :raises Precondition: `PROVIDER_ARCHIVED`, `MODEL_ARCHIVED` where it would come into use
        """
        record = replace(deployment.record, updated_at=self.now(), changed_in=tx.sequence)
        stored = replace(deployment, record=record)
        await tx.replace_deployment(stored)
        if not announces:
            await tx.announce([])
            return stored
        project = deployment.project
        used = (
            {}
            if stored.archived_at
            else {thing.uid: thing for revision in stored.revisions for thing in await tx.things(project, revision)}
        )
        await check_not_archived(tx, project, list(used.values()))
        if not stored.archived_at:
            await check_fallbacks_not_archived(tx, stored)
        former = {
            thing.uid: thing
            for revision in (before.revisions if before is not None else ())
            for thing in await tx.things(project, revision)
            if thing.uid not in used
        }
        gone = await tx.unused(project, list(former.values())) if former else []
        await tx.announce([*used.values(), stored], gone)
        return stored


async def _promise(tx: Writing, deployment: Deployment, revision: Revision) -> Promise:
    return domain.promise_of(revision, await tx.things(deployment.project, revision))


def check_unprotected(deployment: Deployment, caller: Caller, what: str) -> None:
    """Refuse what on a protected deployment only some keys may do, and nobody can approve.

    :param what: such as `be archived`
    :raises Denied: `APPROVAL_REQUIRED`
    """
    if _needs_approval(deployment, caller):
        raise domain.approval_required(deployment, what)


def _needs_approval(deployment: Deployment, caller: Caller) -> bool:
    return deployment.is_protected and not caller.may_approve
