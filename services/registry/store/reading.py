"""Queries. Every list has a total order and a limit."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Table, and_, exists, func, null, select, tuple_

from kit.ids import is_uid
from kit.paging import Cursor, PageRequest
from services.registry import tables
from services.registry.domain import (
    ApiKey,
    ChangeRequest,
    ChangeRequestState,
    Completion,
    Deployment,
    DeploymentSearch,
    Model,
    Project,
    Prompt,
    Provider,
    Recommendation,
    Revision,
    Use,
    Variant,
    Version,
)
from services.registry.ports import Repeat
from services.registry.store import envelopes, rows
from services.registry.store.answers import deployment_bytes, fitting, revision_bytes, text_bytes
from services.registry.store.change_requests import ChangeRequestRows
from services.registry.store.finding import cursor_of, deployment_rows
from services.registry.store.prompts import PromptReading
from services.registry.store.uses import uses
from services.registry.store.versions import VersionReading, is_used

_MAX_NUMBER_DIGITS = 18
_NAMES_BYTES: Final = 1024
"""What a row takes in an answer beside what is long in it: names and times."""
_NUMBER = re.compile(r"([1-9][0-9]{0,8})\.(0|[1-9][0-9]{0,8})")
"""Of a revision: nine digits fit the column."""


class PostgresReading(VersionReading, PromptReading):
    """The Reading port on one session."""

    async def repeat_of(self, tenant: str, rpc: str, request_id: str) -> Repeat | None:
        """What the request id was used for."""
        table = tables.create_requests
        query = select(table.c.fingerprint, table.c.resource).where(
            table.c.tenant == tenant, table.c.rpc == rpc, table.c.request_id == request_id
        )
        row = (await self._session.execute(query)).one_or_none()
        return None if row is None else Repeat(row.fingerprint, row.resource)

    async def project(self, segment: str) -> Project | None:
        """By slug, uid or number."""
        table = tables.projects
        by: ColumnElement[bool] = table.c.uid == segment if is_uid(segment) else table.c.slug == segment
        if segment.isascii() and segment.isdigit():
            if len(segment) > _MAX_NUMBER_DIGITS:
                return None
            by = table.c.number == int(segment)
        row = (await self._session.execute(select(table).where(by))).one_or_none()
        return None if row is None else rows.project(row)

    async def projects(self, page: PageRequest, *, only: str) -> Sequence[Project]:
        """In the order of creation."""
        query = select(tables.projects)
        if only:
            query = query.where(tables.projects.c.uid == only)
        return [rows.project(row) for row in await self._page(query, tables.projects, page)]

    async def provider(self, project: Project, segment: str) -> Provider | None:
        """By slug or uid."""
        row = await self._named(tables.providers, project, segment)
        return None if row is None else rows.provider(row, project)

    async def providers(
        self, project: Project, page: PageRequest, *, with_archived: bool, max_bytes: int
    ) -> tuple[Sequence[Provider], bool]:
        """In the order of creation."""
        table = tables.providers
        size = func.coalesce(func.octet_length(table.c.model_facts), 0) + text_bytes(
            table.c.display_name, table.c.base_url
        )
        found, has_more = await self._bounded_page(table, size, project, page, max_bytes, with_archived=with_archived)
        return [rows.provider(row, project) for row in found], has_more

    async def sealed_otherwise(self, heading: bytes, *, after: str, limit: int) -> Sequence[Provider]:
        """By uid, of every project."""
        return await envelopes.sealed_otherwise(self._session, heading, after=after, limit=limit)

    async def count_sealed_otherwise(self, heading: bytes) -> int:
        """Of every project."""
        return await envelopes.count_sealed_otherwise(self._session, heading)

    async def uses(
        self, project: Project, thing: Provider | Model | Prompt, limit: int, *, only_protected: bool = False
    ) -> Sequence[Use]:
        """By deployment and alias."""
        return await uses(self._session, project, thing, limit, only_protected=only_protected)

    async def version(self, project: Project, uid: str) -> Version | None:
        """By uid."""
        table = tables.versions
        query = select(table, is_used().label("is_used")).where(table.c.project == project.uid, table.c.uid == uid)
        row = (await self._session.execute(query)).one_or_none()
        return None if row is None else rows.version(row, project)

    async def versions(self, project: Project, page: PageRequest, *, max_bytes: int) -> tuple[Sequence[Version], bool]:
        """In the order of creation."""
        table, used = tables.versions, is_used().label("is_used")
        size = func.octet_length(table.c.content)
        found, has_more = await self._bounded_page(table, size, project, page, max_bytes, used)
        return [rows.version(row, project) for row in found], has_more

    async def model(self, project: Project, segment: str) -> Model | None:
        """By uid or number."""
        table = tables.models
        if segment.isascii() and segment.isdigit():
            if len(segment) > _MAX_NUMBER_DIGITS:
                return None
            return await self._model(project, table.c.number == int(segment))
        return await self._model(project, table.c.uid == segment)

    async def model_of(self, project: Project, digest: str) -> Model | None:
        """By the digest of its artifact."""
        return await self._model(project, tables.models.c.digest == digest)

    async def _model(self, project: Project, by: ColumnElement[bool]) -> Model | None:
        query = select(tables.models).where(tables.models.c.project == project.uid, by)
        row = (await self._session.execute(query)).one_or_none()
        return None if row is None else rows.model(row, project)

    async def models(
        self, project: Project, page: PageRequest, *, with_archived: bool, max_bytes: int
    ) -> tuple[Sequence[Model], bool]:
        """In the order of creation."""
        table = tables.models
        size = text_bytes(
            *(table.c[name] for name in ("display_name", "description", "parameters_json", "metrics_json"))
        )
        found, has_more = await self._bounded_page(table, size, project, page, max_bytes, with_archived=with_archived)
        return [rows.model(row, project) for row in found], has_more

    async def deployment(self, project: Project, segment: str) -> Deployment | None:
        """By slug or uid."""
        row = await self._named(tables.deployments, project, segment)
        return None if row is None else (await self._deployments(project, [row]))[0]

    async def deployments(
        self, project: Project, page: PageRequest, search: DeploymentSearch, *, max_bytes: int
    ) -> tuple[Sequence[tuple[Deployment, Cursor]], bool]:
        """Those that are looked for, in the order that is asked for."""
        sized = await deployment_rows(self._session, project, page, search)
        count = len(fitting(await deployment_bytes(self._session, sized), page.size, max_bytes))
        found = sized[:count]
        cursors = [cursor_of(row, search.order) for row in found]
        deployments = await self._deployments(project, found, with_contracts=False)
        return list(zip(deployments, cursors, strict=True)), count < len(sized)

    async def revision(self, deployment: Deployment, segment: str) -> Revision | None:
        """By number, uid or alias."""
        table = tables.revisions
        uid = next((alias.revision for alias in deployment.aliases if alias.alias == segment), segment)
        by = table.c.uid == uid
        if (number := _NUMBER.fullmatch(segment)) is not None:
            by = and_(table.c.major == int(number[1]), table.c.minor == int(number[2]))
        query = select(table.c.uid).where(table.c.deployment == deployment.uid, by)
        found = (await self._session.scalars(query)).one_or_none()
        return None if found is None else (await self._revisions({found}))[found]

    async def first_revision_with(self, deployment: Deployment, variant: str) -> Revision | None:
        """The oldest whose parent lacks it."""
        table, of, parents = tables.revisions, tables.revision_variants, tables.revision_variants.alias("parents")
        query = select(table.c.uid).join(of, of.c.revision == table.c.uid)
        query = query.where(table.c.deployment == deployment.uid, of.c.variant == variant)
        # Times are of several registries' clocks, so they do not tell a child from its parent. What is left is the one
        # that made it, and those that brought it back after it was gone.
        query = query.where(~exists().where(parents.c.revision == table.c.parent, parents.c.variant == variant))
        query = query.order_by(table.c.created_at, table.c.major, table.c.minor).limit(1)
        found = await self._session.scalar(query)
        return None if found is None else (await self._revisions({found}))[found]

    async def revisions(
        self, deployment: Deployment, page: PageRequest, *, max_bytes: int
    ) -> tuple[Sequence[Revision], bool]:
        """Newest first, by number."""
        table = tables.revisions
        query = select(table.c.uid).where(table.c.deployment == deployment.uid)
        if page.after is not None:
            query = query.where(tuple_(table.c.major, table.c.minor) < tuple_(*page.after))
        query = query.order_by(table.c.major.desc(), table.c.minor.desc()).limit(page.size + 1)
        uids = (await self._session.scalars(query)).all()
        sizes = await revision_bytes(self._session, uids)
        keys = fitting(((uid, sizes.get(uid, 0)) for uid in uids), page.size, max_bytes)
        found = await self._revisions(set(keys))
        return [found[uid] for uid in keys], len(keys) < len(uids)

    async def things(self, project: Project, revision: Revision) -> Sequence[Version | Model]:
        """What its variants use, each once."""
        servings = [variant.serving for variant in revision.variants]
        version_uids = {serving.version for serving in servings if isinstance(serving, Completion)}
        model_uids = {serving.model for serving in servings if isinstance(serving, Recommendation)}
        versions, models = tables.versions, tables.models
        found: list[Version | Model] = []
        if version_uids:
            query = select(versions, is_used().label("is_used"))
            query = query.where(versions.c.project == project.uid, versions.c.uid.in_(version_uids))
            found += [rows.version(row, project) for row in await self._session.execute(query.order_by(versions.c.uid))]
        if model_uids:
            query = select(models).where(models.c.project == project.uid, models.c.uid.in_(model_uids))
            found += [rows.model(row, project) for row in await self._session.execute(query.order_by(models.c.uid))]
        return found

    async def change_request(self, deployment: Deployment, uid: str) -> ChangeRequest | None:
        """By uid."""
        return await ChangeRequestRows(self._session).find(deployment, uid)

    async def change_request_of(self, project: Project, uid: str) -> ChangeRequest | None:
        """By uid."""
        return await ChangeRequestRows(self._session).find_in(project, uid)

    async def change_request_for(self, deployment: Deployment, revision: Revision) -> ChangeRequest | None:
        """The latest."""
        return await ChangeRequestRows(self._session).latest_for(deployment, revision)

    async def change_requests(
        self,
        project: Project,
        page: PageRequest,
        *,
        deployment: str,
        state: ChangeRequestState | None,
        now: datetime,
        max_bytes: int,
    ) -> tuple[Sequence[ChangeRequest], bool]:
        """Newest first."""
        found = ChangeRequestRows(self._session)
        return await found.page(project, page, deployment=deployment, state=state, now=now, max_bytes=max_bytes)

    async def api_key(self, project: Project | None, uid: str) -> ApiKey | None:
        """By id."""
        table = tables.api_keys
        query = select(table).where(table.c.uid == uid, _belongs_to(table, project))
        row = (await self._session.execute(query)).one_or_none()
        return None if row is None else rows.api_key(row, project)

    async def any_api_key(self, uid: str) -> ApiKey | None:
        """By id, whatever project it belongs to."""
        query = select(tables.api_keys).where(tables.api_keys.c.uid == uid)
        row = (await self._session.execute(query)).one_or_none()
        if row is None:
            return None
        return rows.api_key(row, None if row.project is None else await self.project(row.project))

    async def api_keys(self, project: Project | None, page: PageRequest) -> Sequence[ApiKey]:
        """In the order of creation."""
        return [rows.api_key(row, project) for row in await self._page_of(tables.api_keys, project, page)]

    async def _named(self, table: Table, project: Project, segment: str) -> rows.AnyRow | None:
        by = table.c.uid == segment if is_uid(segment) else table.c.slug == segment
        query = select(table).where(table.c.project == project.uid, by)
        return (await self._session.execute(query)).one_or_none()

    async def _page_of(self, table: Table, project: Project | None, page: PageRequest) -> Sequence[rows.AnyRow]:
        return await self._page(select(table).where(_belongs_to(table, project)), table, page)

    async def _page(self, query: Select[Any], table: Table, page: PageRequest) -> Sequence[rows.AnyRow]:
        if page.after is not None:
            query = query.where(tuple_(table.c.created_in, table.c.uid) > tuple_(*page.after))
        query = query.order_by(table.c.created_in, table.c.uid).limit(page.size + 1)
        found: Sequence[rows.AnyRow] = (await self._session.execute(query)).all()
        return found

    async def _bounded_page(
        self,
        table: Table,
        size: ColumnElement[int],
        project: Project,
        page: PageRequest,
        max_bytes: int,
        *beside: ColumnElement[Any],
        with_archived: bool = True,
    ) -> tuple[Sequence[rows.AnyRow], bool]:
        """In the order of creation, only so many that they fit an answer; and whether there are more.

        :param size: of what is long in a row: Postgres knows it without reading the values
        :param beside: what else of the rows is asked for
        """
        own = table.c.project == project.uid
        query = select(table.c.uid, size.label("bytes")).where(own)
        if not with_archived:
            query = query.where(table.c.archived_at.is_(None))
        sized = await self._page(query, table, page)
        keys = fitting(((row.uid, row.bytes + _NAMES_BYTES) for row in sized), page.size, max_bytes)
        whole: Select[Any] = select(table, *beside).where(own, table.c.uid.in_(keys))
        found: Sequence[rows.AnyRow] = (
            await self._session.execute(whole.order_by(table.c.created_in, table.c.uid))
        ).all()
        return found, len(keys) < len(sized)

    async def _deployments(
        self, project: Project, found: Sequence[rows.AnyRow], *, with_contracts: bool = True
    ) -> list[Deployment]:
        """With their aliases and what these point to, in three queries however many there are."""
        uids = [row.uid for row in found]
        table = tables.aliases
        contract = table.c.contract if with_contracts else null().label("contract")
        query: Select[Any] = select(table.c.deployment, table.c.alias, table.c.revision, table.c.updated_at, contract)
        query = query.where(table.c.deployment.in_(uids)).order_by(table.c.deployment, table.c.alias)
        pointers = (await self._session.execute(query)).all()
        revisions = await self._revisions({row.revision for row in pointers})
        by_deployment: dict[str, list[rows.AnyRow]] = defaultdict(list)
        for row in pointers:
            by_deployment[row.deployment].append(row)
        return [rows.deployment(row, project, by_deployment[row.uid], revisions) for row in found]

    async def _revisions(self, uids: set[str]) -> dict[str, Revision]:
        of, variant, prompt = tables.revision_variants, tables.variants, tables.prompts
        query = (
            select(of, variant.c.uid, variant.c.number, variant.c.slug, prompt.c.slug.label("prompt_slug"))
            .join(variant, variant.c.uid == of.c.variant)
            .outerjoin(prompt, prompt.c.uid == of.c.prompt)
            .where(of.c.revision.in_(uids))
            .order_by(of.c.revision, of.c.position)
        )
        variants: dict[str, list[Variant]] = defaultdict(list)
        for row in await self._session.execute(query):
            variants[row.revision].append(rows.variant(row))
        own, parent = tables.revisions, tables.revisions.alias("parent")
        parents = (parent.c.major.label("parent_major"), parent.c.minor.label("parent_minor"))
        query = select(own, *parents).outerjoin(parent, parent.c.uid == own.c.parent).where(own.c.uid.in_(uids))
        found = await self._session.execute(query)
        return {row.uid: rows.revision(row, variants[row.uid]) for row in found}


def _belongs_to(table: Table, project: Project | None) -> ColumnElement[bool]:
    return table.c.project.is_(None) if project is None else table.c.project == project.uid
