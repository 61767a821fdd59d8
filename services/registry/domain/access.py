"""Who asks, and what every resource has. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2s
from typing import Final

from kit.errors import Conflict, Exists, Invalid, NotFound, Violation
from kit.ids import is_uid

PLATFORM: Final = "-"
"""What stands for a project in the names of keys that belong to the installation."""
PLATFORM_ADMIN: Final = "platform:admin"
_SLUG: Final = re.compile(r"[a-z0-9_-]{1,63}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as the registry's rules go."""

    key: str
    """The id of the key."""
    tenant: str
    """The uid of the key's project; empty for keys of the installation."""
    is_platform_admin: bool
    may_approve: bool = False
    """Whether it changes protected deployments, and approves what others would change."""

    def sees(self, project: Project) -> bool:
        """Whether the project exists for this caller."""
        return self.tenant in ("", project.uid)


@dataclass(frozen=True, slots=True)
class Record:
    """What every resource has. Sequences are those of the change log, so they order records as they were committed."""

    created_at: datetime
    updated_at: datetime
    created_in: int
    changed_in: int

    def etag(self, uid: str) -> str:
        """Another text after every change, and for every resource."""
        return blake2s(f"{uid} {self.changed_in}".encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Project:
    """A tenant."""

    uid: str
    number: int
    slug: str
    display_name: str
    record: Record

    @property
    def name(self) -> str:
        """`projects/{slug}`."""
        return f"projects/{self.slug}"


@dataclass(frozen=True, slots=True)
class ProjectDraft:
    """A project to be made."""

    slug: str
    display_name: str


def key_name(project: Project | None, uid: str) -> str:
    """The resource name of a key."""
    return f"projects/{PLATFORM if project is None else project.slug}/apiKeys/{uid}"


def check_slug(slug: str, *, field: str) -> None:
    """A name that people choose within a project, which must never be taken for a uid or a number.

    :raises Invalid: `SLUG_INVALID`
    """
    if not _SLUG.fullmatch(slug) or not any("a" <= character <= "z" for character in slug):
        raise violated("SLUG_INVALID", field, "must be 1 to 63 of a-z, 0-9, '-' and '_', with at least one letter")
    if is_uid(slug):
        raise violated("SLUG_INVALID", field, "must not have the shape of a uid")


def violated(reason: str, field: str, message: str) -> Invalid:
    """One thing wrong with a request."""
    return all_violated(reason, (Violation(field, message),))


def all_violated(reason: str, wrong: Sequence[Violation]) -> Invalid:
    """Several things wrong with a request; the sentence is the first one's."""
    return Invalid(f"{wrong[0].field} {wrong[0].message}", reason=reason, violations=wrong)


def missing(kind: str, name: str) -> NotFound:
    """There is none, or none for this caller: the two must not be told apart.

    :param kind: such as `deployment` or `api key`
    """
    reason = f"{kind.upper().replace(' ', '_')}_NOT_FOUND"
    return NotFound(f"there is no {kind} {name!r}", reason=reason, resource=name)


def changed_since(name: str) -> Conflict:
    """The caller's etag is not that of the resource any more."""
    return Conflict(f"{name} has changed since it was read; read it again", reason="ETAG_MISMATCH", resource=name)


def exists(kind: str, name: str) -> Exists:
    """The name is taken.

    :param kind: as in :func:`missing`
    """
    reason = f"{kind.upper().replace(' ', '_')}_EXISTS"
    return Exists(f"there is a {kind} {name!r} already", reason=reason, resource=name)
