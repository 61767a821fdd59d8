"""Everything that the registry needs from outside."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from kit.paging import PageRequest
from kit.secrets import Secret
from services.registry.domain import (
    ApiKey,
    Deployment,
    Model,
    Project,
    Provider,
    Revision,
    Thing,
    Variant,
    Version,
)


@dataclass(frozen=True, slots=True)
class Write:
    """How a caller wants a write done."""

    request_id: str = ""
    """Makes a repeat safe; empty for no protection."""
    fingerprint: bytes = b""
    """A hash of the rest of the request but for its secrets: a repeat must be the same request."""
    is_dry: bool = False
    """Check everything, write nothing."""


@dataclass(frozen=True, slots=True)
class Repeat:
    """A write that was done before under the same request id."""

    fingerprint: bytes
    resource: str
    """The uid of what it made."""


class Reading(Protocol):
    """A view of everything as of one moment. Lists are in the order of creation, with one element more than asked for
    if there are more."""

    async def project(self, segment: str) -> Project | None:
        """By slug, uid or number."""
        ...

    async def projects(self, page: PageRequest, *, only: str) -> Sequence[Project]:
        """All, or the one with the uid `only`."""
        ...

    async def provider(self, project: Project, segment: str) -> Provider | None:
        """By slug or uid."""
        ...

    async def providers(self, project: Project, page: PageRequest) -> Sequence[Provider]: ...

    async def version(self, project: Project, uid: str) -> Version | None: ...

    async def versions(self, project: Project, page: PageRequest) -> Sequence[Version]: ...

    async def deployment(self, project: Project, segment: str) -> Deployment | None:
        """By slug or uid."""
        ...

    async def deployments(
        self, project: Project, page: PageRequest, *, with_archived: bool = False
    ) -> Sequence[Deployment]: ...

    async def revision(self, deployment: Deployment, segment: str) -> Revision | None:
        """By number, uid or alias."""
        ...

    async def revisions(self, deployment: Deployment, page: PageRequest) -> Sequence[Revision]:
        """Newest first, by number: cursors are (major, minor)."""
        ...

    async def things(self, project: Project, revision: Revision) -> Sequence[Version | Model]:
        """What its variants use, each once."""
        ...

    async def model(self, project: Project, segment: str) -> Model | None:
        """By uid or number."""
        ...

    async def model_of(self, project: Project, digest: str) -> Model | None:
        """By the digest of its artifact."""
        ...

    async def models(self, project: Project, page: PageRequest) -> Sequence[Model]: ...

    async def api_key(self, project: Project | None, uid: str) -> ApiKey | None: ...

    async def any_api_key(self, uid: str) -> ApiKey | None:
        """By id, whatever project it belongs to."""
        ...

    async def api_keys(self, project: Project | None, page: PageRequest) -> Sequence[ApiKey]: ...


class Writing(Reading, Protocol):
    """A transaction that no other writer runs beside. It ends with one :meth:`announce`, or changes nothing."""

    sequence: int
    """The number of the change that it will be."""

    async def announce(self, things: Sequence[Thing], gone: Sequence[Thing] = ()) -> None:
        """Append the change: `things` are as given from now on, and followers need `gone` no more. Versions and models
        are announced when they come into use, and gone when nothing uses them."""
        ...

    async def unused(self, project: Project, things: Sequence[Version | Model]) -> Sequence[Version | Model]:
        """Those that no revision uses to which an alias of a deployment in service points."""
        ...

    async def next_minor(self, deployment: Deployment, major: int) -> int:
        """The first minor number of `major` that no revision of the deployment has."""
        ...

    async def next_major(self, deployment: Deployment) -> int:
        """The first major number that no revision of the deployment has."""
        ...

    async def next_number(self, counter: str, count: int = 1) -> int:
        """The first of `count` new numbers of an installation-wide counter; none is skipped."""
        ...

    async def repeat_of(self, tenant: str, rpc: str, request_id: str) -> Repeat | None:
        """What the request id was used for."""
        ...

    async def remember(self, tenant: str, rpc: str, request_id: str, repeat: Repeat, now: datetime) -> None: ...

    async def add_project(self, project: Project) -> None:
        """:raises Exists: `PROJECT_EXISTS`"""
        ...

    async def add_provider(self, provider: Provider) -> None:
        """:raises Exists: `PROVIDER_EXISTS`"""
        ...

    async def replace_provider(self, provider: Provider) -> None:
        """Store another state of a provider that is there."""
        ...

    async def add_version(self, version: Version) -> None: ...

    async def add_deployment(self, deployment: Deployment) -> None:
        """:raises Exists: `DEPLOYMENT_EXISTS`"""
        ...

    async def add_model(self, model: Model) -> None: ...

    async def variant_slugs(self, deployment: Deployment) -> Sequence[str]:
        """Those of every variant that it ever had."""
        ...

    async def add_variant(self, deployment: Deployment, variant: Variant) -> None:
        """Make a variant of the deployment, for revisions to hold."""
        ...

    async def add_revision(self, deployment: Deployment, revision: Revision) -> None:
        """Store a revision whose variants are all of the deployment."""
        ...

    async def replace_deployment(self, deployment: Deployment) -> None:
        """Store another state of a deployment that is there, its aliases included; what they point to is published."""
        ...

    async def add_api_key(self, key: ApiKey) -> None: ...

    async def replace_api_key(self, key: ApiKey) -> None:
        """Store another state of a key that is there."""
        ...

    async def bootstrap_keys(self, setting: str) -> Sequence[ApiKey]:
        """The keys that came from a setting and are not revoked."""
        ...


class Store(Protocol):
    """Where the registry keeps what it owns."""

    def reading(self) -> AbstractAsyncContextManager[Reading]:
        """:raises Unavailable: if the database cannot be reached"""
        ...

    def writing(self, *, is_dry: bool = False) -> AbstractAsyncContextManager[Writing]:
        """Commits when the block ends; rolls back if it raises, or if the write is dry.

        :raises Unavailable: if the database cannot be reached, or another writer does not end
        """
        ...


class MintedKey(Protocol):
    """A key at its making."""

    @property
    def uid(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def secret_hash(self) -> bytes: ...


class Mint(Protocol):
    """Makes and reads keys."""

    def new_key(self) -> MintedKey: ...

    def parse(self, text: str, /) -> tuple[str, bytes]:
        """The id and the hash of the secret of a key's text. Raises Unauthenticated if it is not a key."""
        ...

    def check_scopes(self, scopes: frozenset[str], *, platform: bool) -> None:
        """Raises Invalid if there is no such scope for keys of a project, or of the platform."""
        ...


class Vault(Protocol):
    """Seals credentials."""

    def seal(self, credential: Secret, *, provider: str) -> bytes:
        """:raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`"""
        ...

    def holds(self, envelope: bytes, credential: Secret, *, provider: str) -> bool:
        """Whether the envelope holds this very credential."""
        ...


class UrlCheck(Protocol):
    """The rule of the installation for where its services may call."""

    def __call__(self, url: str, /, *, field: str) -> None:
        """Raises Invalid, with the field, for a URL that could not be called."""
        ...


class Clock(Protocol):
    """The time."""

    def __call__(self) -> datetime: ...


class NewUid(Protocol):
    """Makes uids."""

    def __call__(self, prefix: str, /) -> str: ...
