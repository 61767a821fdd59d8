"""What the registry asks its store."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from kit.paging import Cursor, PageRequest
from services.registry.domain import (
    ApiKey,
    ChangeRequest,
    ChangeRequestState,
    Deployment,
    DeploymentSearch,
    Model,
    Project,
    Prompt,
    Provider,
    Revision,
    Use,
    Version,
)

VersionKey: TypeAlias = tuple[str, str]
"""The uids of a project and a version."""


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

    async def repeat_of(self, tenant: str, rpc: str, request_id: str) -> Repeat | None:
        """What the request id was used for."""
        ...

    async def project(self, segment: str) -> Project | None:
        """By slug, uid or number."""
        ...

    async def projects(self, page: PageRequest, *, only: str) -> Sequence[Project]:
        """All, or the one with the uid `only`."""
        ...

    async def provider(self, project: Project, segment: str) -> Provider | None:
        """By slug or uid."""
        ...

    async def providers(
        self, project: Project, page: PageRequest, *, with_archived: bool, max_bytes: int
    ) -> tuple[Sequence[Provider], bool]:
        """Bounded as :meth:`versions`."""
        ...

    async def sealed_otherwise(self, heading: bytes, *, after: str, limit: int) -> Sequence[Provider]:
        """Providers of every project, by uid, whose envelope does not begin with `heading`.

        :param after: the uid to continue behind; empty for the first
        """
        ...

    async def count_sealed_otherwise(self, heading: bytes) -> int:
        """How many providers there are, of every project, whose envelope does not begin with `heading`."""
        ...

    async def uses(
        self, project: Project, thing: Provider | Model | Prompt, limit: int, *, only_protected: bool = False
    ) -> Sequence[Use]:
        """Aliases of deployments in service whose revision uses it, at most `limit`, by deployment and alias.

        :param only_protected: only of protected deployments
        """
        ...

    async def version(self, project: Project, uid: str) -> Version | None: ...

    async def versions(self, project: Project, page: PageRequest, *, max_bytes: int) -> tuple[Sequence[Version], bool]:
        """Only so many that they take at most about `max_bytes`, but one at least.

        :return: with whether there are more
        """
        ...

    async def known_versions(self, keys: Collection[VersionKey]) -> set[VersionKey]:
        """Which of them are stored."""
        ...

    async def has_unused_versions(self, before: datetime) -> bool:
        """Whether there is a version that no revision has and that was not seen since."""
        ...

    async def deployment(self, project: Project, segment: str) -> Deployment | None:
        """By slug or uid."""
        ...

    async def deployments(
        self, project: Project, page: PageRequest, search: DeploymentSearch, *, max_bytes: int
    ) -> tuple[Sequence[tuple[Deployment, Cursor]], bool]:
        """In the order that is asked for, with their sort keys, without the contracts of their aliases. Bounded as
        :meth:`versions`."""
        ...

    async def revision(self, deployment: Deployment, segment: str) -> Revision | None:
        """By number, uid or alias."""
        ...

    async def first_revision_with(self, deployment: Deployment, variant: str) -> Revision | None:
        """The one that the variant with this uid was made with."""
        ...

    async def revisions(
        self, deployment: Deployment, page: PageRequest, *, max_bytes: int
    ) -> tuple[Sequence[Revision], bool]:
        """Newest first, by number: cursors are (major, minor). Bounded as :meth:`versions`."""
        ...

    async def things(self, project: Project, revision: Revision) -> Sequence[Version | Model]:
        """What its variants use, each once."""
        ...

    async def prompt(self, project: Project, segment: str, number: int | None = None) -> Prompt | None:
        """By slug or uid, as of a number; None for the latest."""
        ...

    async def prompts(
        self, project: Project, page: PageRequest, *, with_archived: bool, max_bytes: int
    ) -> tuple[Sequence[Prompt], bool]:
        """As of their latest numbers. Bounded as :meth:`versions`."""
        ...

    async def prompt_numbers(
        self, prompt: Prompt, page: PageRequest, *, max_bytes: int
    ) -> tuple[Sequence[Prompt], bool]:
        """The prompt as of each number, newest first: cursors are (number,). Bounded as :meth:`versions`."""
        ...

    async def model(self, project: Project, segment: str) -> Model | None:
        """By uid or number."""
        ...

    async def model_of(self, project: Project, digest: str) -> Model | None:
        """By the digest of its artifact."""
        ...

    async def models(
        self, project: Project, page: PageRequest, *, with_archived: bool, max_bytes: int
    ) -> tuple[Sequence[Model], bool]:
        """Bounded as :meth:`versions`."""
        ...

    async def change_request(self, deployment: Deployment, uid: str) -> ChangeRequest | None: ...

    async def change_request_of(self, project: Project, uid: str) -> ChangeRequest | None:
        """By uid, whatever deployment it belongs to."""
        ...

    async def change_request_for(self, deployment: Deployment, revision: Revision) -> ChangeRequest | None:
        """The latest that would point an alias to it."""
        ...

    async def change_requests(
        self,
        project: Project,
        page: PageRequest,
        *,
        deployment: str,
        state: ChangeRequestState | None,
        now: datetime,
        max_bytes: int,
    ) -> tuple[Sequence[ChangeRequest], bool]:
        """Newest first. Bounded as :meth:`versions`.

        :param deployment: its uid; empty for those of the whole project
        :param state: as of `now`; None for all
        """
        ...

    async def api_key(self, project: Project | None, uid: str) -> ApiKey | None: ...

    async def any_api_key(self, uid: str) -> ApiKey | None:
        """By id, whatever project it belongs to."""
        ...

    async def api_keys(self, project: Project | None, page: PageRequest) -> Sequence[ApiKey]: ...
