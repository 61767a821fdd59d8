"""Which deployments use a provider, a model or a prompt."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import and_, select
from sqlalchemy.ext.asyncio import AsyncSession

from services.registry import tables
from services.registry.domain import Model, Project, Prompt, Provider, Use


async def uses(session: AsyncSession, project: Project, thing: Provider | Model | Prompt, limit: int) -> Sequence[Use]:
    """Aliases of deployments in service whose revision uses it, by deployment and alias."""
    of, alias, deployment = tables.revision_variants, tables.aliases, tables.deployments
    query = (
        select(deployment.c.slug, alias.c.alias)
        .distinct()
        .join(alias, alias.c.deployment == deployment.c.uid)
        .join(of, of.c.revision == alias.c.revision)
        .where(deployment.c.archived_at.is_(None), of.c.project == project.uid)
        .order_by(deployment.c.slug, alias.c.alias)
        .limit(limit)
    )
    if isinstance(thing, Model):
        query = query.where(of.c.model == thing.uid)
    elif isinstance(thing, Prompt):
        query = query.where(of.c.prompt == thing.uid)
    else:
        version = tables.versions
        query = query.join(version, and_(version.c.project == of.c.project, version.c.uid == of.c.version)).where(
            version.c.provider == thing.uid
        )
    return [Use(f"{project.name}/deployments/{row.slug}", row.alias) for row in await session.execute(query)]
