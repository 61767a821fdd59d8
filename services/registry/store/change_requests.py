"""Change requests in Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from kit.paging import PageRequest
from services.registry import tables
from services.registry.domain import ChangeRequest, ChangeRequestState, Deployment, Project, Revision
from services.registry.store.answers import fitting, text_bytes
from services.registry.store.rows import AnyRow

_NAMES_BYTES: Final = 1024
"""What a change request takes in an answer beside its texts."""
_BASE = tables.revisions.alias("base")


@dataclass(frozen=True, slots=True)
class ChangeRequestRows:
    """What the ports say of change requests, on one session."""

    session: AsyncSession

    async def find(self, deployment: Deployment, uid: str) -> ChangeRequest | None:
        """By uid."""
        table = tables.change_requests
        query = _query().where(table.c.deployment == deployment.uid, table.c.uid == uid)
        row = (await self.session.execute(query)).one_or_none()
        return None if row is None else _request(row, deployment.project)

    async def find_in(self, project: Project, uid: str) -> ChangeRequest | None:
        """By uid, of whichever deployment of the project."""
        query = _query().where(tables.deployments.c.project == project.uid, tables.change_requests.c.uid == uid)
        row = (await self.session.execute(query)).one_or_none()
        return None if row is None else _request(row, project)

    async def latest_for(self, deployment: Deployment, revision: Revision) -> ChangeRequest | None:
        """The latest that would point an alias to the revision."""
        table = tables.change_requests
        query = _query().where(table.c.deployment == deployment.uid, table.c.revision == revision.uid)
        row = (
            await self.session.execute(query.order_by(table.c.created_in.desc(), table.c.uid.desc()).limit(1))
        ).first()
        return None if row is None else _request(row, deployment.project)

    async def page(
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
        table = tables.change_requests
        query = _query().where(tables.deployments.c.project == project.uid)
        if deployment:
            query = query.where(table.c.deployment == deployment)
        if state is ChangeRequestState.EXPIRED:
            query = query.where(table.c.state == ChangeRequestState.PENDING, table.c.expires_at <= now)
        elif state is ChangeRequestState.PENDING:
            query = query.where(table.c.state == state, table.c.expires_at > now)
        elif state is not None:
            query = query.where(table.c.state == state)
        if page.after is not None:
            query = query.where(tuple_(table.c.created_in, table.c.uid) < tuple_(*page.after))
        newest_first = table.c.created_in.desc(), table.c.uid.desc()
        size = (text_bytes(table.c.description, table.c.decision_note) + _NAMES_BYTES).label("bytes")
        query = query.with_only_columns(table.c.uid, size).order_by(*newest_first).limit(page.size + 1)
        sized = (await self.session.execute(query)).all()
        keys = fitting(((row.uid, row.bytes) for row in sized), page.size, max_bytes)
        found = await self.session.execute(_query().where(table.c.uid.in_(keys)).order_by(*newest_first))
        return [_request(row, project) for row in found], len(keys) < len(sized)

    async def add(self, request: ChangeRequest) -> None:
        """Store a new one."""
        await self.session.execute(
            insert(tables.change_requests).values(
                uid=request.uid,
                deployment=request.deployment,
                alias=request.alias,
                base=request.base or None,
                revision=request.revision,
                retain_contract=request.retains_contract,
                description=request.description,
                author=request.author,
                created_at=request.created_at,
                expires_at=request.expires_at,
                created_in=request.created_in,
                **_decision(request),
            )
        )

    async def replace(self, request: ChangeRequest) -> None:
        """Store what was decided."""
        table = tables.change_requests
        await self.session.execute(update(table).where(table.c.uid == request.uid).values(**_decision(request)))


def _query() -> Select[Any]:
    table, revision, deployment = tables.change_requests, tables.revisions, tables.deployments
    return (
        select(
            table,
            deployment.c.slug,
            revision.c.major,
            revision.c.minor,
            _BASE.c.major.label("base_major"),
            _BASE.c.minor.label("base_minor"),
        )
        .join(deployment, deployment.c.uid == table.c.deployment)
        .join(revision, revision.c.uid == table.c.revision)
        .outerjoin(_BASE, _BASE.c.uid == table.c.base)
    )


def _decision(request: ChangeRequest) -> dict[str, Any]:
    return {
        "state": request.state,
        "decider": request.decider,
        "decided_at": request.decided_at,
        "decision_note": request.decision_note,
    }


def _request(row: AnyRow, project: Project) -> ChangeRequest:
    return ChangeRequest(
        uid=row.uid,
        deployment=row.deployment,
        deployment_name=f"{project.name}/deployments/{row.slug}",
        alias=row.alias,
        base=row.base or "",
        base_number="" if row.base is None else f"{row.base_major}.{row.base_minor}",
        revision=row.revision,
        revision_number=f"{row.major}.{row.minor}",
        retains_contract=row.retain_contract,
        description=row.description,
        author=row.author,
        created_at=row.created_at,
        expires_at=row.expires_at,
        created_in=row.created_in,
        state=ChangeRequestState(row.state),
        decider=row.decider,
        decided_at=row.decided_at,
        decision_note=row.decision_note,
    )
