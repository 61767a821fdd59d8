"""Use cases of versions."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from completions.version import Version as Content
from kit.paging import Page
from services.registry.application.access import (
    MAX_ANSWER_BYTES,
    ListRequest,
    Written,
    bounded_page,
    cursor_of,
    find_project,
    requested_page,
)
from services.registry.application.archives import archived
from services.registry.application.configurations import Complete, identified, with_slug
from services.registry.application.provider_models import ModelChecks, Wanted
from services.registry.domain import Caller, Project, Version, missing, violated
from services.registry.ports import Clock, Noting, Store, Writing


@dataclass(frozen=True, slots=True)
class Versions:
    """The completion configurations."""

    store: Store
    now: Clock
    model_checks: ModelChecks
    expiry: timedelta | None = None
    """How long a version is kept that no revision has and nobody puts or runs; None: for ever."""

    async def put_version(
        self, caller: Caller, project_segment: str, content: Content, *, is_dry: bool, skip_model_check: bool = False
    ) -> Written[Version]:
        """Idempotent by content.

        :param skip_model_check: take a model that the provider does not list
        :raises Invalid: `MODEL_UNKNOWN`, and as :func:`configurations.completed` and :func:`put`
        :raises Precondition: `PROVIDER_ARCHIVED`
        """
        # In a thread: large templates and schemas take some 100 ms.
        complete = await asyncio.to_thread(identified, content, field="version")
        warnings = await self.model_checks.check(
            caller, project_segment, [Wanted("version", complete)], skip=skip_model_check
        )
        async with self.store.writing(is_dry=is_dry) as tx:
            project = await find_project(tx, caller, project_segment)
            version = await put(tx, project, complete, field="version", now=self.now())
            is_new = version.created_in == tx.sequence
            if is_new:
                await tx.announce([])
        return Written(version, 0 if is_dry and is_new else version.created_in, warnings)

    async def get_version(self, caller: Caller, project_segment: str, uid: str) -> Version:
        """:raises NotFound: `VERSION_NOT_FOUND`"""
        async with self.store.reading() as tx:
            project = await find_project(tx, caller, project_segment)
            found = await tx.version(project, uid)
            if found is None:
                raise missing("version", f"projects/{project_segment}/versions/{uid}")
            return found

    async def list_versions(self, caller: Caller, project_segment: str, request: ListRequest) -> Page[Version]:
        """A project's, oldest first."""
        async with self.store.reading() as tx:
            project = await find_project(tx, caller, project_segment)
            subject = f"versions of {project.uid}"
            asked = requested_page(request, subject)
            found, has_more = await tx.versions(project, asked, max_bytes=MAX_ANSWER_BYTES)
        return bounded_page(found, cursor_of(found[-1]) if has_more else (), subject, has_more=has_more)


async def put(tx: Writing, project: Project, complete: Complete, *, field: str, now: datetime) -> Version:
    """The version with this content, stored if it is new: then its `created_in` is the transaction's.

    Its id is made of the complete content with the provider's slug, so what a caller reads and puts again is the same
    version.

    :param complete: its provider is a slug or a uid
    :raises Invalid: `PROVIDER_NOT_FOUND`
    :raises Precondition: `PROVIDER_ARCHIVED` if it is new
    """
    named = complete.content.provider
    provider = await tx.provider(project, named)
    if provider is None:
        raise violated("PROVIDER_NOT_FOUND", f"{field}.provider", f"there is no provider {named!r} here")
    complete = await with_slug(complete, provider)
    found = await tx.version(project, complete.uid)
    if found is not None:
        return await seen(tx, found, now)
    if provider.archived_at is not None:
        raise archived(provider)
    fresh = Version(complete.uid, project, provider.uid, complete.content, now, tx.sequence, now)
    await tx.add_version(fresh)
    return fresh


async def seen(tx: Noting, version: Version, now: datetime) -> Version:
    """A version that is put or used again: it is kept from expiring."""
    await tx.touch_versions({(version.project.uid, version.uid): now})
    return replace(version, seen_at=max(version.seen_at, now))
