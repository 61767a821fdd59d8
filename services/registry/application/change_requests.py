"""Use cases of change requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, TypeAlias

from kit.paging import Page, page_request
from services.registry import domain
from services.registry.application.access import (
    MAX_ANSWER_BYTES,
    ListRequest,
    Written,
    bounded_page,
    caller_name,
    find_project,
)
from services.registry.application.changes import Changes, find, find_for_change
from services.registry.application.contracts import Judge, write_judged
from services.registry.domain import Caller, Change, ChangeRequest, ChangeRequestState, Deployment, Difference, missing
from services.registry.ports import Reading, Store, Writing

_ALL: Final = "-"
Told: TypeAlias = tuple[ChangeRequest, tuple[Difference, ...], tuple[str, ...]]
"""A request, what it would change, and what of that does not serve."""


@dataclass(frozen=True, slots=True)
class ChangeRequests:
    """The changes of protected deployments that wait for approval."""

    store: Store
    changes: Changes

    async def get_change_request(self, caller: Caller, name: tuple[str, str, str]) -> Told:
        """One, with what it would change.

        :param name: segments of project, deployment (`-` for whichever it is) and change request
        :raises NotFound: `CHANGE_REQUEST_NOT_FOUND`
        """
        async with self.store.reading() as tx:
            deployment, request = await _find(tx, caller, name)
            after = await tx.revision(deployment, request.revision)
            before = await tx.revision(deployment, request.base) if request.base else None
            warnings = () if after is None else domain.warnings(after)
            if before is None or after is None:
                return request, (), warnings
            things = [await tx.things(deployment.project, side) for side in (before, after)]
        differences = await asyncio.to_thread(domain.differences, before, things[0], after, things[1])
        return request, differences, warnings

    async def list_change_requests(
        self,
        caller: Caller,
        project_segment: str,
        deployment: str,
        state: ChangeRequestState | None,
        asked: ListRequest,
    ) -> Page[ChangeRequest]:
        """A deployment's, or with `-` a project's, newest first."""
        async with self.store.reading() as tx:
            project = await find_project(tx, caller, project_segment)
            uid = "" if deployment == _ALL else (await find(tx, caller, project_segment, deployment)).uid
            subject = f"change requests of {uid or project.uid} {state or 'all'}"
            request = page_request(asked.size, asked.token, subject=subject, shape=(int, str))
            found, has_more = await tx.change_requests(
                project, request, deployment=uid, state=state, now=self.changes.now(), max_bytes=MAX_ANSWER_BYTES
            )
        cursor = (found[-1].created_in, found[-1].uid) if has_more else ()
        return bounded_page(found, cursor, subject, has_more=has_more)

    async def approve_change_request(self, caller: Caller, name: tuple[str, str, str], note: str) -> Written[Told]:
        """Point the alias to the revision.

        :raises NotFound: `CHANGE_REQUEST_NOT_FOUND`
        :raises Denied: `APPROVAL_BY_AUTHOR`
        :raises Precondition: `CHANGE_REQUEST_DECIDED`, `CHANGE_REQUEST_EXPIRED`, `CONTRACT_BROKEN`,
            `DEPLOYMENT_ARCHIVED`
        :raises Conflict: `BASE_MOVED`
        """
        # Of two revisions that never change: before the lock that all writers wait for.
        asked, differences, warnings = await self.get_change_request(caller, name)

        async def write(tx: Writing, judge: Judge) -> Written[Told]:
            deployment = await find_for_change(tx, caller, name[0], asked.deployment, etag="")
            request = await _find_of(tx, deployment, name[2])
            decider = caller_name(caller, deployment.project)
            decided = request.decided(ChangeRequestState.APPROVED, decider, note, self.changes.now())
            request.check_base(deployment)
            await tx.replace_change_request(decided)
            revision = await tx.revision(deployment, request.revision)
            if revision is None:
                raise missing("revision", f"{deployment.name}/revisions/{request.revision_number}")
            change = Change(alias=request.alias, retains_contract=request.retains_contract)
            revised = await self.changes.point(tx, judge, deployment, revision, change, caller)
            return revised.written((decided, differences, warnings), change)

        return await write_judged(self.store, write)

    async def decline_change_request(
        self, caller: Caller, name: tuple[str, str, str], state: ChangeRequestState, note: str
    ) -> Written[Told]:
        """Turn it down, or withdraw one's own.

        :param state: REJECTED or CANCELLED
        :raises NotFound: `CHANGE_REQUEST_NOT_FOUND`
        :raises Denied: `NOT_THE_AUTHOR`
        :raises Precondition: `CHANGE_REQUEST_DECIDED`, `CHANGE_REQUEST_EXPIRED`
        """
        asked, differences, warnings = await self.get_change_request(caller, name)
        async with self.store.writing() as tx:
            deployment = await find(tx, caller, name[0], asked.deployment)
            request = await _find_of(tx, deployment, name[2])
            decider = caller_name(caller, deployment.project)
            decided = request.decided(state, decider, note, self.changes.now())
            await tx.replace_change_request(decided)
            await tx.announce([])
        return Written((decided, differences, warnings), tx.sequence)


async def _find(tx: Reading, caller: Caller, name: tuple[str, str, str]) -> tuple[Deployment, ChangeRequest]:
    """With its deployment.

    :param name: as :meth:`ChangeRequests.get_change_request`
    """
    project, deployment, uid = name
    if deployment != _ALL:
        found = await find(tx, caller, project, deployment)
        return found, await _find_of(tx, found, uid)
    of = await find_project(tx, caller, project)
    request = await tx.change_request_of(of, uid)
    if request is None:
        raise missing("change request", f"{of.name}/deployments/{_ALL}/changeRequests/{uid}")
    return await find(tx, caller, project, request.deployment), request


async def _find_of(tx: Reading, deployment: Deployment, uid: str) -> ChangeRequest:
    found = await tx.change_request(deployment, uid)
    if found is None:
        raise missing("change request", f"{deployment.name}/changeRequests/{uid}")
    return found
