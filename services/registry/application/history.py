"""Use cases of revisions and aliases."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from kit.errors import Conflict, Precondition
from kit.paging import Page, page_request
from services.registry import domain
from services.registry.application.access import MAX_ANSWER_BYTES, ListRequest, Written, bounded_page
from services.registry.application.changes import Changes, check_unprotected, find, find_for_change
from services.registry.application.contracts import Judge, write_judged
from services.registry.domain import Caller, Change, Deployment, Difference, Revision, missing
from services.registry.ports import Reading, Store, Writing


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
        :raises Invalid: `ALIAS_NAME_RESERVED`
        :raises Conflict: `BASE_MOVED` if a draft was made of another revision than the alias points to now
        :raises Precondition: `CONTRACT_BROKEN`
        """

        async def write(tx: Writing, judge: Judge) -> Written[Deployment]:
            found = await find_for_change(tx, caller, project, deployment, etag=change.etag)
            revision = await revision_of(tx, found, segment)
            alias = found.alias(change.alias)
            if alias is None:
                domain.check_new_alias(change.alias)
            if alias is not None and alias.revision == revision.uid:
                return Written(found, found.record.changed_in)
            if revision.is_draft and alias is not None and alias.revision != revision.parent:
                raise Conflict(
                    f"{found.name} has moved on since the draft {revision.number} was made: make the change again",
                    reason="BASE_MOVED",
                    resource=f"{found.name}/revisions/{revision.number}",
                )
            revised = await self.changes.point(tx, judge, found, revision, change, caller)
            return revised.written(revised.deployment, change)

        return await write_judged(self.store, write, is_dry=change.is_dry)

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

        async def write(tx: Writing, judge: Judge) -> Written[Deployment]:
            found = await find_for_change(tx, caller, project, deployment, etag=change.etag)
            earlier = await revision_of(tx, found, segment)
            described = replace(change, description=change.description or f"back to {earlier.number}")
            revised = await self.changes.revise(
                tx,
                judge,
                found,
                described,
                caller,
                variants=earlier.variants,
                salt=earlier.salt,
                routing=earlier.routing,
            )
            return revised.written(revised.deployment, change)

        return await write_judged(self.store, write, is_dry=change.is_dry)


async def revision_of(tx: Reading, deployment: Deployment, segment: str) -> Revision:
    """By number, uid or alias.

    :raises NotFound: `REVISION_NOT_FOUND`
    """
    found = await tx.revision(deployment, segment)
    if found is None:
        raise missing("revision", f"{deployment.name}/revisions/{segment}")
    return found
