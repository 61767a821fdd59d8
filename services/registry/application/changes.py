"""How a deployment changes: from the revision that an alias points to, a new one, to which that alias moves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kit.errors import Precondition
from services.registry import domain
from services.registry.application.access import find_project
from services.registry.domain import Bump, Caller, Deployment, Revision, Variant, missing
from services.registry.ports import Clock, NewUid, Reading, Writing


@dataclass(frozen=True, slots=True)
class Change:
    """How a caller wants a change done."""

    alias: str = domain.LIVE
    """The one that the change begins from, and that moves."""
    etag: str = ""
    """The deployment's, as the caller knows it; empty for whatever it is now."""
    is_draft: bool = False
    """Make the revision, move nothing."""
    bump: Bump | None = None
    """None lets the change tell."""
    description: str = ""
    is_dry: bool = False
    """Check everything, write nothing."""


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


def check_etag(deployment: Deployment, etag: str) -> None:
    """:raises Conflict: `ETAG_MISMATCH`"""
    if etag and etag != deployment.record.etag(deployment.uid):
        raise domain.changed_since(deployment.name)


@dataclass(frozen=True, slots=True)
class Changes:
    """Makes revisions."""

    now: Clock
    new_uid: NewUid

    async def revise(
        self,
        tx: Writing,
        deployment: Deployment,
        change: Change,
        author: str,
        *,
        variants: Sequence[Variant] | None = None,
        salt: str | None = None,
    ) -> tuple[Deployment, Revision]:
        """The deployment after a new revision, which differs from the change's base in what is given; none if that is
        nothing. Ends the transaction's work: it announces.

        :return: the deployment, and the revision that the change amounts to
        :raises NotFound: `ALIAS_NOT_FOUND`
        """
        base = deployment.pointed_to(change.alias)
        wanted = replace(
            base,
            variants=base.variants if variants is None else tuple(variants),
            salt=base.salt if salt is None else salt,
        )
        if wanted == base:
            return deployment, base
        bump = change.bump or domain.bump_of(base, wanted)
        is_minor = bump is Bump.MINOR
        revision = replace(
            wanted,
            uid=self.new_uid("rev"),
            parent=base.uid,
            parent_number=base.number,
            major=base.major if is_minor else await tx.next_major(deployment),
            minor=await tx.next_minor(deployment, base.major) if is_minor else 0,
            author=author,
            description=change.description,
            created_at=self.now(),
            is_draft=change.is_draft,
        )
        await tx.add_revision(deployment, revision)
        if change.is_draft:
            return await self.store(tx, deployment, announces=False), revision
        moved = deployment.moved(change.alias, revision, revision.created_at)
        return await self.store(tx, moved, before=deployment), revision

    async def store(
        self, tx: Writing, deployment: Deployment, *, before: Deployment | None = None, announces: bool = True
    ) -> Deployment:
        """Write another state of a deployment and announce it, with what comes into use by it and what goes out.

        :param before: its former state, if its aliases pointed elsewhere
        :param announces: whether followers see a difference
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
        former = {
            thing.uid: thing
            for revision in (before.revisions if before is not None else ())
            for thing in await tx.things(project, revision)
            if thing.uid not in used
        }
        gone = await tx.unused(project, list(former.values())) if former else []
        await tx.announce([*used.values(), stored], gone)
        return stored
