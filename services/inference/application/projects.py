"""Which project a call is about."""

from __future__ import annotations

from catalog import targets
from catalog.view import Project, View
from kit.errors import NotFound


def find_project(view: View, segment: str, *, tenant: str) -> Project:
    """A project by slug or uid, if the caller may see it.

    :param tenant: uid of the project whose key calls; empty for platform keys, which see all
    :raises NotFound: `PROJECT_NOT_FOUND`; another tenant's project is not found either
    """
    project = targets.find_project(view, segment)
    if project is None or tenant not in ("", project.uid):
        raise NotFound(f"there is no project {segment!r}", reason="PROJECT_NOT_FOUND", resource=f"projects/{segment}")
    return project
