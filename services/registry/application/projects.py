"""Use cases of projects."""

from __future__ import annotations

from dataclasses import dataclass

from kit.paging import Page
from services.registry.application.access import (
    ListRequest,
    Written,
    find_project,
    found_page,
    remember,
    repeat_of,
    requested_page,
)
from services.registry.domain import Caller, Project, ProjectDraft, Record, missing
from services.registry.ports import Clock, NewUid, Store, Write

_CREATE = "CreateProject"


@dataclass(frozen=True, slots=True)
class Projects:
    """The tenants."""

    store: Store
    now: Clock
    new_uid: NewUid

    async def create_project(self, draft: ProjectDraft, write: Write) -> Written[Project]:
        """:raises Exists: `PROJECT_EXISTS`"""
        async with self.store.writing(is_dry=write.is_dry) as tx:
            if uid := await repeat_of(tx, write, _CREATE, None):
                found = await tx.project(uid)
                if found is None:
                    raise missing("project", f"projects/{uid}")
                return Written(found, found.record.changed_in)
            now = self.now()
            project = Project(
                uid=self.new_uid("prj"),
                number=await tx.next_number("project"),
                slug=draft.slug,
                display_name=draft.display_name or draft.slug,
                record=Record(now, now, tx.sequence, tx.sequence),
            )
            await tx.add_project(project)
            await remember(tx, write, _CREATE, None, project.uid, now)
            await tx.announce([project])
        return Written(project, 0 if write.is_dry else tx.sequence)

    async def get_project(self, caller: Caller, segment: str) -> Project:
        """:raises NotFound: `PROJECT_NOT_FOUND`"""
        async with self.store.reading() as tx:
            return await find_project(tx, caller, segment)

    async def list_projects(self, caller: Caller, request: ListRequest) -> Page[Project]:
        """The caller's own project, or all of them for keys of the installation."""
        subject = f"projects of {caller.tenant}"
        asked = requested_page(request, subject)
        async with self.store.reading() as tx:
            return found_page(list(await tx.projects(asked, only=caller.tenant)), asked, subject)
