"""What the registry tells its store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from services.registry.domain import (
    ApiKey,
    ChangeRequest,
    Deployment,
    Model,
    Project,
    Prompt,
    Provider,
    Revision,
    Thing,
    Variant,
    Version,
)
from services.registry.ports.reading import Reading, Repeat, VersionKey


class Noting(Protocol):
    """A transaction beside all others: of what nobody follows, such as when things were last used."""

    async def touch_versions(self, times: Mapping[VersionKey, datetime]) -> set[VersionKey]:
        """Note when versions were last seen; an earlier time than is noted changes nothing.

        :return: those of them that are stored; beside a writer perhaps not all
        """
        ...

    async def note_key_uses(self, times: Mapping[str, datetime]) -> None:
        """Note when keys, by uid, were last used. An earlier time than is noted changes nothing, nor does a key that is
        none."""
        ...


class Writing(Reading, Noting, Protocol):
    """A transaction that no other writer runs beside. It ends with one :meth:`announce`, or changes nothing that
    anybody follows."""

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

    async def replace_envelopes(self, anew: Mapping[str, tuple[bytes, bytes]]) -> Sequence[Provider]:
        """Store envelopes of providers, and nothing else of them, where they have the former one still.

        :param anew: by the providers' uids, the former and the new one
        :return: those providers, as they are now
        """
        ...

    async def add_version(self, version: Version) -> None: ...

    async def delete_unused_versions(self, before: datetime, *, limit: int) -> int:
        """Delete versions that no revision has and that were not seen since, at most `limit`; how many."""
        ...

    async def add_prompt(self, prompt: Prompt) -> None:
        """With its first state.

        :raises Exists: `PROMPT_EXISTS`
        """
        ...

    async def replace_prompt(self, prompt: Prompt) -> None:
        """Store another state of a prompt that is there; what it says is kept for ever if its number is new."""
        ...

    async def add_deployment(self, deployment: Deployment) -> None:
        """:raises Exists: `DEPLOYMENT_EXISTS`"""
        ...

    async def add_model(self, model: Model) -> None: ...

    async def replace_model(self, model: Model) -> None:
        """Store another state of a model that is there."""
        ...

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

    async def add_change_request(self, request: ChangeRequest) -> None: ...

    async def replace_change_request(self, request: ChangeRequest) -> None:
        """Store what was decided."""
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

    def noting(self) -> AbstractAsyncContextManager[Noting]:
        """Commits when the block ends; rolls back if it raises.

        :raises Unavailable: if the database cannot be reached
        """
        ...

    def writing(self, *, is_dry: bool = False) -> AbstractAsyncContextManager[Writing]:
        """Commits when the block ends; rolls back if it raises, or if the write is dry.

        :raises Unavailable: if the database cannot be reached, or another writer does not end
        """
        ...
