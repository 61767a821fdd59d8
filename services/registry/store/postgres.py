"""Transactions, and what they write."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Insert, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from kit import database
from kit.changelog import ChangeLog
from kit.database import Sessions
from kit.errors import Exists
from services.registry import tables
from services.registry.convert.catalog import catalog_entries, catalog_keys
from services.registry.convert.routing import pack_routing
from services.registry.convert.versions import pack_content
from services.registry.domain import (
    ChangeRequest,
    Deployment,
    Model,
    Project,
    Provider,
    Revision,
    Thing,
    Variant,
    Version,
    contract_to_text,
    exists,
)
from services.registry.ports import Noting, Reading, Repeat, Writing
from services.registry.store import envelopes, rows
from services.registry.store.api_keys import KeyNoting, KeyWriting
from services.registry.store.change_requests import ChangeRequestRows
from services.registry.store.finding import search_values
from services.registry.store.prompts import PromptWriting
from services.registry.store.reading import PostgresReading
from services.registry.store.versions import VersionNoting, VersionWriting

_UNIQUE_VIOLATION = "23505"


@dataclass(frozen=True, slots=True)
class PostgresStore:
    """The Store port."""

    sessions: Sessions
    log: ChangeLog

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Reading]:
        """One snapshot for all queries of the block."""
        async with database.transaction(self.sessions, read_only_snapshot=True) as session:
            yield PostgresReading(session)

    @asynccontextmanager
    async def noting(self) -> AsyncIterator[Noting]:
        """Commits when the block ends."""
        async with database.transaction(self.sessions) as session:
            yield PostgresNoting(session)

    @asynccontextmanager
    async def writing(self, *, is_dry: bool = False) -> AsyncIterator[Writing]:
        """Begins with the change log's lock, so that what the block reads is what its change follows."""
        async with database.transaction(self.sessions) as session:
            yield PostgresWriting(session, self.log, await self.log.lock(session))
            if is_dry:
                await session.rollback()


class PostgresNoting(VersionNoting, KeyNoting):
    """The Noting port on one session."""


class PostgresWriting(VersionWriting, KeyWriting, PromptWriting, PostgresReading):
    """The Writing port on one session."""

    def __init__(self, session: AsyncSession, log: ChangeLog, sequence: int) -> None:
        super().__init__(session)
        self._log = log
        self.sequence = sequence

    async def announce(self, things: Sequence[Thing], gone: Sequence[Thing] = ()) -> None:
        """Append the change."""
        # Versions and models never change: what the catalog has of them is not sent again, nor packed.
        immutable = [key for thing in things if isinstance(thing, Version | Model) for key in catalog_keys(thing)]
        known = await self._log.present(self._session, immutable)
        fresh = [thing for thing in things if known.isdisjoint(catalog_keys(thing))]
        entries = [entry for thing in fresh for entry in catalog_entries(thing)]
        entries += [(key, None) for thing in gone for key in catalog_keys(thing)]
        await self._log.append(self._session, entries)

    async def unused(self, project: Project, things: Sequence[Version | Model]) -> Sequence[Version | Model]:
        """Those that no aliased revision uses."""
        of, alias = tables.revision_variants, tables.aliases
        uids = [thing.uid for thing in things]
        query = (
            select(of.c.version, of.c.model)
            .join(alias, alias.c.revision == of.c.revision)
            .join(tables.deployments, tables.deployments.c.uid == alias.c.deployment)
            .where(tables.deployments.c.archived_at.is_(None))
            .where(of.c.project == project.uid, of.c.version.in_(uids) | of.c.model.in_(uids))
        )
        used = {uid for row in await self._session.execute(query) for uid in row}
        return [thing for thing in things if thing.uid not in used]

    async def next_minor(self, deployment: Deployment, major: int) -> int:
        """The first that is free."""
        table = tables.revisions
        query = select(func.max(table.c.minor)).where(table.c.deployment == deployment.uid, table.c.major == major)
        last = await self._session.scalar(query)
        return 0 if last is None else last + 1

    async def next_major(self, deployment: Deployment) -> int:
        """The first that is free."""
        table = tables.revisions
        last = await self._session.scalar(select(func.max(table.c.major)).where(table.c.deployment == deployment.uid))
        return 1 if last is None else last + 1

    async def next_number(self, counter: str, count: int = 1) -> int:
        """The first of `count` numbers."""
        table = tables.counters
        statement = upsert(table).values(name=counter, value=count)
        statement = statement.on_conflict_do_update(
            index_elements=[table.c.name], set_={"value": table.c.value + statement.excluded.value}
        )
        last: int = (await self._session.execute(statement.returning(table.c.value))).scalar_one()
        return last - count + 1

    async def remember(self, tenant: str, rpc: str, request_id: str, repeat: Repeat, now: datetime) -> None:
        """Keep what a request made."""
        await self._insert(
            insert(tables.create_requests).values(
                tenant=tenant,
                rpc=rpc,
                request_id=request_id,
                fingerprint=repeat.fingerprint,
                resource=repeat.resource,
                created_at=now,
            )
        )

    async def add_project(self, project: Project) -> None:
        """:raises Exists: `PROJECT_EXISTS`"""
        await self._insert(
            insert(tables.projects).values(
                uid=project.uid,
                number=project.number,
                slug=project.slug,
                display_name=project.display_name,
                **rows.record_values(project.record),
            ),
            exists("project", project.name),
        )

    async def add_provider(self, provider: Provider) -> None:
        """:raises Exists: `PROVIDER_EXISTS`"""
        await self._insert(
            insert(tables.providers).values(
                uid=provider.uid,
                project=provider.project.uid,
                slug=provider.slug,
                kind=provider.kind,
                **rows.provider_values(provider),
            ),
            exists("provider", provider.name),
        )

    async def replace_provider(self, provider: Provider) -> None:
        """Store another state of it."""
        table = tables.providers
        await self._session.execute(
            update(table).where(table.c.uid == provider.uid).values(**rows.provider_values(provider))
        )

    async def replace_envelopes(self, anew: Mapping[str, tuple[bytes, bytes]]) -> Sequence[Provider]:
        """In one statement."""
        return await envelopes.replace_envelopes(self._session, anew)

    async def add_version(self, version: Version) -> None:
        """Store it."""
        await self._insert(
            insert(tables.versions).values(
                project=version.project.uid,
                uid=version.uid,
                provider=version.provider,
                content=pack_content(version.content),
                model=version.content.model,
                created_at=version.created_at,
                seen_at=version.seen_at,
                created_in=version.created_in,
            )
        )

    async def add_deployment(self, deployment: Deployment) -> None:
        """:raises Exists: `DEPLOYMENT_EXISTS`"""
        await self._insert(
            insert(tables.deployments).values(
                uid=deployment.uid,
                project=deployment.project.uid,
                slug=deployment.slug,
                kind=deployment.kind,
                display_name=deployment.display_name,
                description=deployment.description,
                creator=deployment.creator,
                protected=deployment.is_protected,
                search_text="",
                first_provider="",
                first_model="",
                **rows.record_values(deployment.record),
            ),
            exists("deployment", deployment.name),
        )
        for revision in deployment.revisions:
            for variant in revision.variants:
                await self.add_variant(deployment, variant)
            await self.add_revision(deployment, revision)
        await self._store_aliases(deployment)
        found_by = await search_values(self._session, deployment)
        table = tables.deployments
        await self._session.execute(update(table).where(table.c.uid == deployment.uid).values(**found_by))

    async def add_model(self, model: Model) -> None:
        """Store it."""
        facts = model.facts
        await self._insert(
            insert(tables.models).values(
                project=model.project.uid,
                uid=model.uid,
                number=model.number,
                display_name=facts.display_name,
                description=facts.description,
                digest=facts.digest,
                algorithm=facts.algorithm,
                parameters_json=facts.parameters_json,
                metrics_json=facts.metrics_json,
                user_count=facts.user_count,
                item_count=facts.item_count,
                interaction_count=facts.interaction_count,
                size_bytes=facts.size_bytes,
                creator=model.creator,
                **rows.record_values(model.record),
            )
        )

    async def replace_model(self, model: Model) -> None:
        """Store whether it is archived."""
        table = tables.models
        values = {"archived_at": model.archived_at, **rows.record_values(model.record)}
        await self._session.execute(
            update(table).where(table.c.project == model.project.uid, table.c.uid == model.uid).values(**values)
        )

    async def variant_slugs(self, deployment: Deployment) -> Sequence[str]:
        """Of every variant that it ever had."""
        table = tables.variants
        query = select(table.c.slug).where(table.c.deployment == deployment.uid).order_by(table.c.slug)
        return (await self._session.scalars(query)).all()

    async def add_variant(self, deployment: Deployment, variant: Variant) -> None:
        """Make it."""
        await self._insert(
            insert(tables.variants).values(
                uid=variant.uid, deployment=deployment.uid, number=variant.number, slug=variant.slug
            )
        )

    async def add_revision(self, deployment: Deployment, revision: Revision) -> None:
        """Store it with what it has of each variant."""
        await self._insert(
            insert(tables.revisions).values(
                uid=revision.uid,
                deployment=deployment.uid,
                major=revision.major,
                minor=revision.minor,
                parent=revision.parent or None,
                salt=revision.salt,
                author=revision.author,
                description=revision.description,
                published=not revision.is_draft,
                created_at=revision.created_at,
                routing=pack_routing(revision.routing),
            )
        )
        if revision.variants:
            await self._session.execute(insert(tables.revision_variants), _members(deployment, revision))

    async def replace_deployment(self, deployment: Deployment) -> None:
        """Store another state of it."""
        table = tables.deployments
        await self._session.execute(
            update(table)
            .where(table.c.uid == deployment.uid)
            .values(
                display_name=deployment.display_name,
                description=deployment.description,
                archived_at=deployment.archived_at,
                protected=deployment.is_protected,
                **await search_values(self._session, deployment),
                **rows.record_values(deployment.record),
            )
        )
        await self._store_aliases(deployment)
        revisions = tables.revisions
        pointed_to = {alias.revision for alias in deployment.aliases}
        await self._session.execute(
            update(revisions).where(revisions.c.uid.in_(pointed_to), ~revisions.c.published).values(published=True)
        )

    async def _store_aliases(self, deployment: Deployment) -> None:
        table, names = tables.aliases, [alias.alias for alias in deployment.aliases]
        await self._session.execute(
            delete(table).where(table.c.deployment == deployment.uid, table.c.alias.not_in(names))
        )
        for alias in deployment.aliases:
            statement = upsert(table).values(
                deployment=deployment.uid,
                alias=alias.alias,
                revision=alias.revision,
                updated_at=alias.updated_at,
                contract=None if alias.contract is None else contract_to_text(alias.contract),
            )
            moved = {name: statement.excluded[name] for name in ("revision", "updated_at", "contract")}
            await self._session.execute(
                statement.on_conflict_do_update(index_elements=[table.c.deployment, table.c.alias], set_=moved)
            )

    async def add_change_request(self, request: ChangeRequest) -> None:
        """Store it."""
        await ChangeRequestRows(self._session).add(request)

    async def replace_change_request(self, request: ChangeRequest) -> None:
        """Store what was decided."""
        await ChangeRequestRows(self._session).replace(request)

    async def _insert(self, statement: Insert, taken: Exists | None = None) -> None:
        """Insert a row; a name that is taken is what `taken` says."""
        try:
            await self._session.execute(statement)
        except IntegrityError as error:
            if taken is not None and getattr(error.orig, "sqlstate", "") == _UNIQUE_VIOLATION:
                raise taken from None
            raise


def _members(deployment: Deployment, revision: Revision) -> list[dict[str, Any]]:
    return [
        {
            "revision": revision.uid,
            "position": position,
            "variant": variant.uid,
            "display_name": variant.display_name,
            "notes": variant.notes,
            "active": variant.active,
            "weight": variant.weight,
            "project": deployment.project.uid,
            **rows.serving_values(variant.serving),
        }
        for position, variant in enumerate(revision.variants)
    ]
