"""Which project, deployments and variants a question is about."""

from __future__ import annotations

from collections.abc import Iterable

from catalog import targets
from catalog.view import Deployment, Project, View
from kit.errors import NotFound
from services.analytics.domain.request import Series


def find_project(view: View, segment: str, *, tenant: str) -> Project:
    """A project by slug or uid, if the caller may see it.

    :param tenant: uid of the project whose key calls; empty for platform keys, which see all
    :raises NotFound: `PROJECT_NOT_FOUND`; another tenant's project is not found either
    """
    project = targets.find_project(view, segment)
    if project is None or tenant not in ("", project.uid):
        raise NotFound(f"there is no project {segment!r}", reason="PROJECT_NOT_FOUND", resource=f"projects/{segment}")
    return project


def deployment_uids(view: View, project: Project, series: Iterable[Series]) -> dict[str, str]:
    """Uids of deployments by slug: what requests said, else what the catalog says."""
    uids: dict[str, str] = {}
    for each in series:
        if each.deployment:
            uids[each.deployment_slug] = each.deployment
        elif each.deployment_slug not in uids:
            found = view.deployment_named(project.uid, each.deployment_slug)
            uids[each.deployment_slug] = found.uid if found is not None else ""
    return uids


def of_deployment(view: View, project: Project, series: frozenset[Series], name: str) -> frozenset[Series]:
    """Those of a deployment, by its slug or uid; all for an empty name.

    :raises NotFound: `DEPLOYMENT_NOT_FOUND` if neither the catalog nor any request knows it
    """
    if not name:
        return series
    slugs = {each.deployment_slug for each in series if name in (each.deployment, each.deployment_slug)}
    known = view.deployment_named(project.uid, name) or view.deployment(name)
    if known is not None and known.project == project.uid:
        slugs.add(known.slug)
    if not slugs:
        raise NotFound(
            f"there is no deployment {name!r} in this project",
            reason="DEPLOYMENT_NOT_FOUND",
            resource=f"projects/{project.slug}/deployments/{name}",
        )
    return frozenset(each for each in series if each.deployment_slug in slugs)


def of_variant(view: View, project: Project, series: frozenset[Series], name: str) -> frozenset[Series]:
    """Those of a variant, by its uid or by the slug that its requests were announced with; all for an empty name.

    :raises NotFound: `VARIANT_NOT_FOUND` if neither the catalog nor any request knows it
    """
    if not name:
        return series
    found = frozenset(each for each in series if name in (each.variant, each.variant_slug))
    if not found and not _has_variant(view, project, name):
        raise NotFound(
            f"there is no variant {name!r} here",
            reason="VARIANT_NOT_FOUND",
            resource=f"projects/{project.slug}/variants/{name}",
        )
    return found


def _has_variant(view: View, project: Project, name: str) -> bool:
    return any(
        name in (variant.uid, variant.slug)
        for thing in view.things.values()
        if isinstance(thing, Deployment) and thing.project == project.uid
        for revision in thing.aliases.values()
        for variant in revision.variants
    )
