"""Which deployments use a provider, a model or a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, select, union_all
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import tables
from services.registry.domain import Model, Project, Prompt, Provider, Use


async def uses(
    session: AsyncSession,
    project: Project,
    thing: Provider | Model | Prompt,
    limit: int,
    *,
    only_protected: bool = False,
) -> Sequence[Use]:
    """Aliases of deployments in service whose revision uses it, by deployment and alias."""
    of, alias, deployment, version = tables.revision_variants, tables.aliases, tables.deployments, tables.versions
    query = (
        select(deployment.c.slug, alias.c.alias)
        .join(alias, alias.c.deployment == deployment.c.uid)
        .join(of, of.c.revision == alias.c.revision)
        .where(deployment.c.archived_at.is_(None), of.c.project == project.uid)
    )
    if only_protected:
        query = query.where(deployment.c.protected)
    if isinstance(thing, Model):
        ways = [query.where(of.c.model == thing.uid)]
    elif isinstance(thing, Prompt):
        ways = [query.where(of.c.prompt == thing.uid)]
    else:
        own = and_(version.c.project == of.c.project, version.c.uid == of.c.version)
        ways = [
            query.join(version, own).where(version.c.provider == thing.uid),
            query.where(of.c.fallback_providers.contains([thing.uid])),
        ]
    # Each way has an index of its own; `or` would have none.
    found = union_all(*ways).subquery()
    ordered = select(found).distinct().order_by(found.c.slug, found.c.alias).limit(limit)
    return [Use(f"{project.name}/deployments/{row.slug}", row.alias) for row in await session.execute(ordered)]
