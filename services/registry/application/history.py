"""Use cases of revisions and aliases."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kit.errors import Conflict, Precondition
from kit.paging import Page, page, page_request
from services.registry import domain
from services.registry.application.access import ListRequest, Written, caller_name
from services.registry.application.changes import Change, Changes, check_etag, find, find_for_change
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
            revisions = list(await tx.revisions(found, asked))
            return found, page(revisions, asked, subject=subject, cursor=lambda each: (each.major, each.minor))

    async def get_revision(
        self, caller: Caller, project: str, deployment: str, segment: str
    ) -> tuple[Deployment, Revision]:
        """:raises NotFound: `REVISION_NOT_FOUND`"""
        async with self.store.reading() as tx:
            found = await find(tx, caller, project, deployment)
            return found, await _revision(tx, found, segment)

    async def compare_revisions(
        self, caller: Caller, project: str, deployment: str, before: str, after: str
    ) -> tuple[Difference, ...]:
        """:raises NotFound: `REVISION_NOT_FOUND`"""
        async with self.store.reading() as tx:
            found = await find(tx, caller, project, deployment)
            sides = [await _revision(tx, found, segment) for segment in (before, after or domain.LIVE)]
            things = [await tx.things(found.project, side) for side in sides]
        return domain.differences(sides[0], things[0], sides[1], things[1])

    async def set_alias(
        self, caller: Caller, project: str, deployment: str, alias: str, segment: str, *, etag: str, is_dry: bool
    ) -> Written[Deployment]:
        """Point an alias, new or there already, to a revision.

        :raises NotFound: `REVISION_NOT_FOUND`
        :raises Conflict: `BASE_MOVED` if a draft was made of another revision than the alias points to now
        """
        async with self.store.writing(is_dry=is_dry) as tx:
            found = await find_for_change(tx, caller, project, deployment, etag=etag)
            revision = await _revision(tx, found, segment)
            pointed = {each.alias: each.revision for each in found.aliases}
            if pointed.get(alias) == revision.uid:
                return Written(found, found.record.changed_in)
            if revision.is_draft and alias in pointed and pointed[alias] != revision.parent:
                raise Conflict(
                    f"{found.name} has moved on since the draft {revision.number} was made: make the change again",
                    reason="BASE_MOVED",
                    resource=f"{found.name}/revisions/{revision.number}",
                )
            moved = found.moved(alias, replace(revision, is_draft=False), self.changes.now())
            stored = await self.changes.store(tx, moved, before=found)
        return Written(stored, 0 if is_dry else tx.sequence)

    async def delete_alias(
        self, caller: Caller, project: str, deployment: str, alias: str, *, etag: str
    ) -> Written[Deployment]:
        """Calls that name it are not found from then on.

        :raises NotFound: `ALIAS_NOT_FOUND`
        :raises Precondition: `ALIAS_REQUIRED` for `live`
        """
        async with self.store.writing() as tx:
            found = await find_for_change(tx, caller, project, deployment, etag=etag)
            found.pointed_to(alias)
            if alias == domain.LIVE:
                raise Precondition("every deployment has the alias live", reason="ALIAS_REQUIRED", resource=found.name)
            stored = await self.changes.store(tx, found.without_alias(alias), before=found)
        return Written(stored, tx.sequence)

    async def rollback_deployment(
        self, caller: Caller, project: str, deployment: str, segment: str, change: Change
    ) -> Written[Deployment]:
        """A new revision equal to an earlier one; nothing if the alias's own is equal to it.

        :raises NotFound: `REVISION_NOT_FOUND`, `ALIAS_NOT_FOUND`
        """
        async with self.store.writing(is_dry=change.is_dry) as tx:
            found = await find_for_change(tx, caller, project, deployment, etag=change.etag)
            earlier = await _revision(tx, found, segment)
            described = replace(change, description=change.description or f"back to {earlier.number}")
            author = caller_name(caller, found.project)
            stored, _ = await self.changes.revise(
                tx, found, described, author, variants=earlier.variants, salt=earlier.salt
            )
        return Written(stored, 0 if change.is_dry else stored.record.changed_in)

    async def archive_deployment(
        self, caller: Caller, project: str, deployment: str, *, etag: str, archived: bool
    ) -> Written[Deployment]:
        """Take it out of service, or bring it back.

        :raises Conflict: `ETAG_MISMATCH`
        """
        async with self.store.writing() as tx:
            found = await find(tx, caller, project, deployment)
            check_etag(found, etag)
            if (found.archived_at is not None) is archived:
                return Written(found, found.record.changed_in)
            changed = replace(found, archived_at=self.changes.now() if archived else None)
            stored = await self.changes.store(tx, changed, before=found)
        return Written(stored, tx.sequence)


async def _revision(tx: Reading, deployment: Deployment, segment: str) -> Revision:
    found = await tx.revision(deployment, segment)
    if found is None:
        raise missing("revision", f"{deployment.name}/revisions/{segment}")
    return found
