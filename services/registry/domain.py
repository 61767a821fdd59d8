"""What the registry owns, and the rules that need nothing but the thing itself. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2s
from typing import Final, TypeAlias

from completions.version import Version as Content
from kit.errors import Conflict, Exists, Invalid, NotFound, Violation
from kit.ids import is_uid
from kit.secrets import Secret

LIVE: Final = "live"
"""The alias that every deployment has from its first revision on."""
PLATFORM: Final = "-"
"""What stands for a project in the names of keys that belong to the installation."""
PLATFORM_ADMIN: Final = "platform:admin"
OPENAI_URL: Final = "https://api.openai.com/v1"

_SLUG: Final = re.compile(r"[a-z0-9_-]{1,63}")
_NOT_IN_SLUG: Final = re.compile(r"[^a-z0-9]+")
_MAX_DERIVED_SLUG: Final = 48


class ProviderKind(StrEnum):
    """Which wire contract a provider speaks."""

    OPENAI = "openai"
    OPENAI_COMPATIBLE = "openai-compatible"


class DeploymentKind(StrEnum):
    """What a deployment answers."""

    COMPLETION = "completion"
    RECOMMENDATION = "recommendation"


class UnknownUsers(StrEnum):
    """What a recommender answers users that it was not trained with."""

    POPULAR = "popular"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as the registry's rules go."""

    key: str
    """The id of the key."""
    tenant: str
    """The uid of the key's project; empty for keys of the installation."""
    is_platform_admin: bool

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
class Provider:
    """A place that runs LLMs."""

    uid: str
    project: Project
    slug: str
    kind: ProviderKind
    display_name: str
    base_url: str
    envelope: bytes | None = field(repr=False)
    """The credential, sealed for this uid; None if it wants none."""
    record: Record

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.project.name}/providers/{self.slug}"


@dataclass(frozen=True, slots=True)
class Version:
    """A completion configuration. Its uid hashes `content`, whose provider is the slug."""

    uid: str
    project: Project
    provider: str
    """The provider's uid."""
    content: Content
    created_at: datetime
    created_in: int

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.project.name}/versions/{self.uid}"


@dataclass(frozen=True, slots=True)
class Completion:
    """A version and how hard to try."""

    version: str
    max_retries: int
    attempt_timeout: timedelta | None


@dataclass(frozen=True, slots=True)
class Model:
    """A trained recommender, named by its artifact."""

    uid: str
    project: Project
    number: int
    facts: ModelFacts
    creator: str
    record: Record

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.project.name}/models/{self.uid}"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a trained model when it is registered."""

    display_name: str
    description: str
    digest: str
    algorithm: str
    parameters_json: str
    metrics_json: str
    user_count: int
    item_count: int
    interaction_count: int
    size_bytes: int


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


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Who may call."""

    uid: str
    project: Project | None
    """None for keys of the installation."""
    display_name: str
    scopes: tuple[str, ...]
    secret_hash: bytes = field(repr=False)
    creator: str
    expires_at: datetime | None
    revoked_at: datetime | None
    record: Record
    bootstrap: str = ""
    """The setting that it comes from; empty for keys that were created by a call."""

    @property
    def name(self) -> str:
        """The resource name."""
        return key_name(self.project, self.uid)


Thing: TypeAlias = Project | Provider | Version | Deployment | Model | ApiKey
"""What the catalog tells of."""


@dataclass(frozen=True, slots=True)
class ProjectDraft:
    """A project to be made."""

    slug: str
    display_name: str


@dataclass(frozen=True, slots=True)
class ProviderDraft:
    """A provider to be made."""

    slug: str
    kind: ProviderKind
    display_name: str
    base_url: str
    credential: Secret | None


@dataclass(frozen=True, slots=True)
class ProviderChange:
    """What of a provider is to change; None leaves it as it is."""

    display_name: str | None
    base_url: str | None
    changes_credential: bool
    credential: Secret | None
    """None, if it is to change, removes the one that is stored."""


@dataclass(frozen=True, slots=True)
class CompletionDraft:
    """A version that is there, by uid or resource name, or a new one."""

    version: str
    new_version: Content | None
    max_retries: int
    attempt_timeout: timedelta | None


@dataclass(frozen=True, slots=True)
class RecommendationDraft:
    """A trained model, by uid, number or resource name."""

    model: str
    unknown_users: UnknownUsers


ServingDraft: TypeAlias = CompletionDraft | RecommendationDraft


@dataclass(frozen=True, slots=True)
class VariantDraft:
    """A variant to be made."""

    display_name: str
    notes: str
    active: bool | None
    weight: float | None
    serving: ServingDraft


@dataclass(frozen=True, slots=True)
class VariantChange:
    """What of a variant is to change; None leaves it as it is."""

    display_name: str | None = None
    notes: str | None = None
    active: bool | None = None
    weight: float | None = None
    serving: ServingDraft | None = None

    @property
    def is_minor(self) -> bool:
        """Whether callers meet the same variants as before, only more or less often."""
        return self.serving is None


@dataclass(frozen=True, slots=True)
class DeploymentDraft:
    """A deployment to be made."""

    slug: str
    kind: DeploymentKind
    display_name: str
    description: str
    salt: str
    variants: tuple[VariantDraft, ...]


@dataclass(frozen=True, slots=True)
class ApiKeyDraft:
    """A key to be made."""

    display_name: str
    scopes: tuple[str, ...]
    expires_at: datetime | None


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


def base_url(kind: ProviderKind, given: str) -> str:
    """Where a provider's API starts, without a slash at the end.

    :raises Invalid: `BASE_URL_REQUIRED`, `BASE_URL_INVALID`
    """
    if not given:
        if kind is not ProviderKind.OPENAI:
            raise violated("BASE_URL_REQUIRED", "provider.base_url", "is required for this kind of provider")
        return OPENAI_URL
    # Paths are appended to it, and a key in a query would be stored in the clear.
    if "?" in given or "#" in given:
        raise violated("BASE_URL_INVALID", "provider.base_url", "must have no query and no fragment")
    return given.rstrip("/")


def variant_slug(display_name: str, position: int, taken: Sequence[str]) -> str:
    """A slug for a variant: from its display name where that has letters, else from its position (1, 2, 3 …); made
    unique among `taken` with a number behind it."""
    plain = unicodedata.normalize("NFKD", display_name).encode("ascii", "ignore").decode().lower()
    slug = _NOT_IN_SLUG.sub("-", plain).strip("-")[:_MAX_DERIVED_SLUG].strip("-")
    if not any("a" <= character <= "z" for character in slug):
        slug = f"variant-{slug or position}"
    unique, count = slug, 1
    while unique in taken:
        count += 1
        unique = f"{slug}-{count}"
    return unique


def default_weight(kind: DeploymentKind, position: int) -> float:
    """The weight of a variant that was given none: a later completion moves nobody."""
    return 100.0 if position == 1 or kind is DeploymentKind.RECOMMENDATION else 0.0


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


def violated(reason: str, field: str, message: str) -> Invalid:
    """One thing wrong with a request."""
    return Invalid(f"{field} {message}", reason=reason, violations=(Violation(field, message),))


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
