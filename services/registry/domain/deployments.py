"""The stable names, their revisions and variants. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

from services.registry.domain.access import Project, Record

LIVE: Final = "live"
"""The alias that every deployment has from its first revision on."""


class DeploymentKind(StrEnum):
    """What a deployment answers."""

    COMPLETION = "completion"
    RECOMMENDATION = "recommendation"


class UnknownUsers(StrEnum):
    """What a recommender answers users that it was not trained with."""

    POPULAR = "popular"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Completion:
    """A version and how hard to try."""

    version: str
    max_retries: int
    attempt_timeout: timedelta | None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A trained model, by uid, and what it answers strangers."""

    model: str
    unknown_users: UnknownUsers


Serving: TypeAlias = Completion | Recommendation


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to serve a deployment, as one revision has it."""

    uid: str
    number: int
    slug: str
    display_name: str
    notes: str
    active: bool
    weight: float
    serving: Serving
    """Of the deployment's kind."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A complete snapshot of a deployment."""

    uid: str
    parent: str
    """The uid of the revision that it was made from; empty for the first."""
    major: int
    minor: int
    salt: str
    author: str
    created_at: datetime
    variants: tuple[Variant, ...]

    @property
    def number(self) -> str:
        """`major.minor`."""
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True, slots=True)
class Alias:
    """A pointer to a revision."""

    alias: str
    revision: str
    """Its uid."""
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Deployment:
    """A stable name."""

    uid: str
    project: Project
    slug: str
    kind: DeploymentKind
    display_name: str
    description: str
    creator: str
    aliases: tuple[Alias, ...]
    revisions: tuple[Revision, ...]
    """Those that an alias points to, each once."""
    record: Record

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.project.name}/deployments/{self.slug}"

    @property
    def live(self) -> Revision:
        """What the alias `live` points to."""
        uid = next(alias.revision for alias in self.aliases if alias.alias == LIVE)
        return self.revision(uid)

    def revision(self, uid: str) -> Revision:
        """One of its revisions."""
        return next(revision for revision in self.revisions if revision.uid == uid)


def warnings(revision: Revision) -> tuple[str, ...]:
    """States that are legal but do not serve."""
    if not revision.variants:
        return ("there is no variant: calls fail with NO_ACTIVE_VARIANT",)
    active = [variant for variant in revision.variants if variant.active]
    if not active:
        return ("no variant is active: calls fail with NO_ACTIVE_VARIANT",)
    if all(variant.weight <= 0 for variant in active):
        return ("the weights of all active variants are 0: calls fail with NO_ACTIVE_VARIANT",)
    return ()
