"""What else the registry needs from outside: keys, credentials, providers, the time."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from kit.secrets import Secret
from services.registry.domain import CheckFailure, ModelList, Provider


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

    def open(self, envelope: bytes, *, provider: str) -> Secret:
        """
        :raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`, `KEY_ENCRYPTION_KEY_UNKNOWN`, `CREDENTIAL_UNREADABLE`
        """
        ...

    def key_id(self) -> str:
        """The id of the key that encrypts.

        :raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`
        """
        ...

    def heading(self) -> bytes:
        """What envelopes that :meth:`seal` makes now begin with, and no others.

        :raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`
        """
        ...

    def sealed_anew(self, envelope: bytes, *, provider: str) -> bytes:
        """The same credential under the key that encrypts now.

        :raises Precondition: as :meth:`open`
        """
        ...

    def holds(self, envelope: bytes, credential: Secret, *, provider: str) -> bool:
        """Whether the envelope holds this very credential."""
        ...


class ModelLists(Protocol):
    """Asks providers what they offer."""

    async def of(self, provider: Provider, *, fresh: bool = False) -> ModelList | CheckFailure:
        """The provider's list, asked for now or a moment ago. Never raises for what the provider does, and ends before
        the call's deadline, so that a write can go on without it.

        :param fresh: ask now
        """
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
