"""Use cases of revisions and aliases."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from kit.errors import Conflict, Precondition
from kit.paging import Page, page_request
from services.registry import domain
from services.registry.application.access import MAX_ANSWER_BYTES, ListRequest, Written, bounded_page
from services.registry.application.changes import Change, Changes, check_etag, check_unprotected, find, find_for_change
from services.registry.domain import Caller, Deployment, Difference, Revision, missing
from services.registry.ports import Reading, Store


@dataclass(frozen=True, slots=True)
class History:
    """What deployments were, and what is called."""

    store: Store
    changes: Changes

    async def list_revisions(
        self, caller: Caller, project: str, deployment: str, request: ListRequest
    ) -> tuple[Deployment, Page[Revision]]:
        """Newest first."""
        async with self.store.reading() as tx:
            found = await find(tx, caller, project, deployment)
            subject = f"revisions of {found.uid}"
            asked = page_request(request.size, request.token, subject=subject, shape=(int, int))
            revisions, has_more = await tx.revisions(found, asked, max_bytes=MAX_ANSWER_BYTES)
        cursor = (revisions[-1].major, revisions[-1].minor) if has_more else ()
        return found, bounded_page(revisions, cursor, subject, has_more=has_more)

    async def get_revision(
        self, caller: Caller, project: str, deployment: str, segment: str
    ) -> tuple[Deployment, Revision]:
        """:raises NotFound: `REVISION_NOT_FOUND`"""
        async with self.store.reading() as tx:
            found = await find(tx, caller, project, deployment)
            return found, await revision_of(tx, found, segment)

    async def compare_revisions(
        self, caller: Caller, project: str, deployment: str, before: str, after: str
    ) -> tuple[Difference, ...]:
        """:raises NotFound: `REVISION_NOT_FOUND`"""
        async with self.store.reading() as tx:
            found = await find(tx, caller, project, deployment)
            sides = [await revision_of(tx, found, segment) for segment in (before, after or domain.LIVE)]
            things = [await tx.things(found.project, side) for side in sides]
        return await asyncio.to_thread(domain.differences, sides[0], things[0], sides[1], things[1])

    async def set_alias(
        self, caller: Caller, project: str, deployment: str, segment: str, change: Change
    ) -> Written[Deployment]:
        """Point the change's alias, new or there already, to a revision.

        :raises NotFound: `REVISION_NOT_FOUND`
        :raises Conflict: `BASE_MOVED` if a draft was made of another revision than the alias points to now
        :raises Precondition: `CONTRACT_BROKEN`
        """
        async with self.store.writing(is_dry=change.is_dry) as tx:
            found = await find_for_change(tx, caller, project, deployment, etag=change.etag)
            revision = await revision_of(tx, found, segment)
            alias = found.alias(change.alias)
            if alias is not None and alias.revision == revision.uid:
                return Written(found, found.record.changed_in)
            if revision.is_draft and alias is not None and alias.revision != revision.parent:
                raise Conflict(
                    f"{found.name} has moved on since the draft {revision.number} was made: make the change again",
                    reason="BASE_MOVED",
                    resource=f"{found.name}/revisions/{revision.number}",
                )
            revised = await self.changes.point(tx, found, revision, change, caller)
        return revised.written(revised.deployment, change)

    async def delete_alias(
        self, caller: Caller, project: str, deployment: str, alias: str, *, etag: str
    ) -> Written[Deployment]:
        """Calls that name it are not found from then on.

        :raises NotFound: `ALIAS_NOT_FOUND`
        :raises Denied: `APPROVAL_REQUIRED`
        :raises Precondition: `ALIAS_REQUIRED` for `live`
        """
        async with self.store.writing() as tx:
            found = await find_for_change(tx, caller, project, deployment, etag=etag)
            found.pointed_to(alias)
            check_unprotected(found, caller, "lose an alias")
            if alias == domain.LIVE:
                raise Precondition("every deployment has the alias live", reason="ALIAS_REQUIRED", resource=found.name)
            stored = await self.changes.store(tx, found.without_alias(alias), before=found)
        return Written(stored, tx.sequence)

    async def rollback_deployment(
        self, caller: Caller, project: str, deployment: str, segment: str, change: Change
    ) -> Written[Deployment]:
        """A new revision equal to an earlier one; nothing if the alias's own is equal to it.

        :raises NotFound: `REVISION_NOT_FOUND`, `ALIAS_NOT_FOUND`
        :raises Precondition: `CONTRACT_BROKEN`
        """
        async with self.store.writing(is_dry=change.is_dry) as tx:
            found = await find_for_change(tx, caller, project, deployment, etag=change.etag)
            earlier = await revision_of(tx, found, segment)
            described = replace(change, description=change.description or f"back to {earlier.number}")
            revised = await self.changes.revise(
                tx, found, described, caller, variants=earlier.variants, salt=earlier.salt
            )
        return revised.written(revised.deployment, change)

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


async def revision_of(tx: Reading, deployment: Deployment, segment: str) -> Revision:
    """By number, uid or alias.

    :raises NotFound: `REVISION_NOT_FOUND`
    """
    found = await tx.revision(deployment, segment)
    if found is None:
        raise missing("revision", f"{deployment.name}/revisions/{segment}")
    return found
