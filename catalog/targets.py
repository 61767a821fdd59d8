"""What callers write to name a deployment, and what it means.

`name`, `name:alias`, `name/alias` (if that alias exists), the uid in place of the name, or the resource name
`projects/{project}/deployments/{name or uid}` with `:alias` behind it.
"""

from __future__ import annotations

from catalog.view import Contract, Deployment, Project, Revision, View
from kit.errors import Invalid, NotFound
from kit.values import Value

LIVE = "live"
"""The alias that a call means if it names none."""


class Target(Value):
    """A deployment as one call sees it."""

    project: Project
    deployment: Deployment
    alias: str
    revision: Revision

    @property
    def contract(self) -> Contract | None:
        """What callers of the alias rely on; None if it holds none."""
        return self.deployment.contracts.get(self.alias)


def resolve(view: View, text: str, *, tenant: str) -> Target:
    """The deployment and revision that `text` names.

    :param tenant: uid of the project whose key calls; empty for platform keys, which must give the resource name
    :raises NotFound: `DEPLOYMENT_NOT_FOUND` or `ALIAS_NOT_FOUND`; another project's deployment is not found either
    :raises Invalid: `TARGET_NEEDS_PROJECT` if a platform key names no project
    """
    project, name = _project(view, text, tenant)
    head, colon, alias = name.partition(":")
    deployment = _deployment(view, project, head)
    if deployment is None and not colon:
        # `name/alias`: slugs hold no slash, so what is behind the first one can only be an alias.
        head, _, alias = name.partition("/")
        deployment = _deployment(view, project, head)
    if deployment is None:
        raise NotFound(
            f"there is no deployment {head!r} in this project",
            reason="DEPLOYMENT_NOT_FOUND",
            resource=f"projects/{project.slug}/deployments/{head}",
        )
    alias = alias or LIVE
    revision = deployment.aliases.get(alias)
    if revision is None:
        raise NotFound(
            f"the deployment {deployment.slug!r} has no alias {alias!r}",
            reason="ALIAS_NOT_FOUND",
            resource=f"projects/{project.slug}/deployments/{deployment.slug}",
            alias=alias,
        )
    return Target(project, deployment, alias, revision)


def _project(view: View, text: str, tenant: str) -> tuple[Project, str]:
    if text.startswith("projects/"):
        _, slug, collection, name = (*text.split("/", 3), "", "", "")[:4]
        project = find_project(view, slug)
        if collection != "deployments" or not name or project is None or tenant not in ("", project.uid):
            raise NotFound(f"there is no {text!r}", reason="DEPLOYMENT_NOT_FOUND", resource=text)
        return project, name
    instead = "name the deployment as projects/{project}/deployments/{deployment}"
    return project_of_key(view, tenant, instead=instead), text


def project_of_key(view: View, tenant: str, *, instead: str) -> Project:
    """The project whose key calls.

    :param tenant: its uid; empty for platform keys
    :param instead: what to do with a platform key, in the imperative
    :raises NotFound: `PROJECT_NOT_FOUND`
    :raises Invalid: `TARGET_NEEDS_PROJECT`
    """
    if not tenant:
        raise Invalid(f"a platform key belongs to no project: {instead}", reason="TARGET_NEEDS_PROJECT")
    project = view.project(tenant)
    if project is None:
        raise NotFound("the project of this key is gone", reason="PROJECT_NOT_FOUND", resource=f"projects/{tenant}")
    return project


def find_project(view: View, segment: str) -> Project | None:
    """A project by the last segment of its resource name: slug, uid or number."""
    return view.project_named(segment) or view.project(segment)


def _deployment(view: View, project: Project, segment: str) -> Deployment | None:
    found = view.deployment_named(project.uid, segment) or view.deployment(segment)
    return found if found is not None and found.project == project.uid else None
