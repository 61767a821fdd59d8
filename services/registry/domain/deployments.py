"""The stable names, their revisions and variants. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, TypeAlias

from catalog.routing import WEIGHTS_ALONE, Routing
from completions.contract import Contract
from kit.errors import NotFound
from services.registry.domain.access import Project, Record, violated
from services.registry.domain.execution import USUAL, Execution, Fallback
from services.registry.domain.prompts import PromptUse

MAX_VARIANTS: Final = 200
"""Of one revision."""
MAX_ALIASES: Final = 32
"""Of one deployment: each carries its contract to every service."""
LIVE: Final = "live"
"""The alias that every deployment has from its first revision on."""
_REVISION: Final = re.compile(r"[0-9]+\.[0-9]+|rev_.*")


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
    prompt: PromptUse | None = None
    """What the version was made from. Callers never meet it."""
    execution: Execution = USUAL


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
    parent_number: str
    major: int
    minor: int
    salt: str
    author: str
    description: str
    created_at: datetime
    is_draft: bool
    """Whether no alias has ever pointed to it."""
    variants: tuple[Variant, ...]
    routing: Routing = WEIGHTS_ALONE
    """How calls find their variants, by the uids of these."""

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
    contract: Contract | None = None
    """What its callers rely on; None until a revision says so."""


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
    archived_at: datetime | None
    record: Record
    is_protected: bool = False
    """Whether only keys with `deployments:approve` change what its callers meet."""

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.project.name}/deployments/{self.slug}"

    @property
    def live(self) -> Revision:
        """What the alias `live` points to."""
        uid = next(alias.revision for alias in self.aliases if alias.alias == LIVE)
        return self.revision(uid)

    @property
    def fallbacks(self) -> Iterator[Fallback]:
        """Those of everything that an alias points to."""
        for revision in self.revisions:
            for variant in revision.variants:
                if isinstance(variant.serving, Completion):
                    yield from variant.serving.execution.fallbacks

    def revision(self, uid: str) -> Revision:
        """One of its revisions."""
        return next(revision for revision in self.revisions if revision.uid == uid)

    def aliases_of(self, revision: Revision) -> tuple[str, ...]:
        """Those that point to it."""
        return tuple(alias.alias for alias in self.aliases if alias.revision == revision.uid)

    def pointed_to(self, alias: str) -> Revision:
        """:raises NotFound: `ALIAS_NOT_FOUND`"""
        found = self.alias(alias)
        if found is None:
            raise NotFound(
                f"{self.name} has no alias {alias!r}", reason="ALIAS_NOT_FOUND", resource=self.name, alias=alias
            )
        return self.revision(found.revision)

    def alias(self, alias: str) -> Alias | None:
        """By name."""
        return next((each for each in self.aliases if each.alias == alias), None)

    def moved(self, alias: str, revision: Revision, now: datetime, contract: Contract | None) -> Deployment:
        """With an alias, new or there already, that points to `revision`.

        :param contract: the alias's
        """
        pointer = Alias(alias, revision.uid, now, contract)
        known = {each.uid: each for each in (*self.revisions, revision)}
        aliases = tuple(sorted((*(each for each in self.aliases if each.alias != alias), pointer), key=_by_name))
        return replace(self, aliases=aliases, revisions=_distinct(aliases, known))

    def without_alias(self, alias: str) -> Deployment:
        """With one alias less."""
        aliases = tuple(each for each in self.aliases if each.alias != alias)
        return replace(self, aliases=aliases, revisions=_distinct(aliases, {each.uid: each for each in self.revisions}))


def check_new_alias(name: str) -> None:
    """Refuse a name by which a revision is found, or may be one day.

    :raises Invalid: `ALIAS_NAME_RESERVED`
    """
    if _REVISION.fullmatch(name):
        raise violated("ALIAS_NAME_RESERVED", "alias", "must not look like a revision's number or uid, as 1.0 or rev_…")


class Bump(StrEnum):
    """Which part of a revision's number grows."""

    MINOR = "minor"
    MAJOR = "major"


def bump_of(before: Revision, after: Revision) -> Bump:
    """Minor if callers meet the same variants by the same rules as before, only more or less often, or tried harder or
    less hard."""
    met = [(each.salt, _routed(each.routing), _servings(each)) for each in (before, after)]
    return Bump.MINOR if met[0] == met[1] else Bump.MAJOR


def _servings(revision: Revision) -> dict[str, str | Recommendation]:
    return {variant.uid: _met(variant.serving) for variant in revision.variants}


def _met(serving: Serving) -> str | Recommendation:
    return serving.version if isinstance(serving, Completion) else serving


def _routed(routing: Routing) -> object:
    """But for weights, coverage, and names and activity of rules."""
    rules = [(rule.uid, rule.condition, frozenset(share.variant for share in rule.shares)) for rule in routing.rules]
    return frozenset(routing.fields), rules, routing.baseline


def _by_name(alias: Alias) -> str:
    return alias.alias


def _distinct(aliases: tuple[Alias, ...], known: Mapping[str, Revision]) -> tuple[Revision, ...]:
    return tuple(known[uid] for uid in dict.fromkeys(each.revision for each in aliases))
