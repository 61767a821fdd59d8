"""Use cases of stored credentials, of all projects together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from kit.errors import Precondition
from services.registry.application.access import Written
from services.registry.domain import Provider
from services.registry.ports import Reading, Store, Vault

DEFAULT_BATCH: Final = 100
MAX_BATCH: Final = 1000
_PAGE: Final = 200
_MAX_LOOKED: Final = 2000
"""In one call: many may be unreadable."""
_NAMED: Final = 10


@dataclass(frozen=True, slots=True)
class Rotation:
    """How far a rotation is."""

    rotated_count: int
    remaining_count: int
    """Those under another key still."""
    key_id: str
    """Of the key that encrypts now."""


@dataclass(frozen=True, slots=True)
class _Look:
    """How far a look through the credentials, from the first to the last, has come."""

    after: str = ""
    """The uid of the provider that was looked at last."""
    unreadable_count: int = 0
    unreadable: tuple[tuple[Provider, Precondition], ...] = ()
    """The first of them."""
    is_whole: bool = False
    """Whether it has come to the last."""


class Credentials:
    """Providers' credentials under the installation's keys."""

    def __init__(self, store: Store, vault: Vault) -> None:
        self._store = store
        self._vault = vault
        self._turn = asyncio.Lock()
        """One call at a time goes on with the look."""
        self._look = _Look()
        """What calls of this process have seen, and have done with."""

    async def rotate_credentials(self, batch_size: int) -> Written[Rotation]:
        """Encrypt some of those under other keys anew, and announce them: whoever holds both keys opens either state.

        Those that cannot be opened are left behind, and are an error once a look from the first to the last finds
        nothing else. A call looks at 2000 at most, and the next goes on from there.

        :param batch_size: 0 for 100
        :raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`; `CREDENTIALS_UNREADABLE`, naming providers, if all that
            remains cannot be opened
        """
        async with self._turn:
            return await self._rotate(min(batch_size or DEFAULT_BATCH, MAX_BATCH))

    async def _rotate(self, limit: int) -> Written[Rotation]:
        key_id, heading = self._vault.key_id(), self._vault.heading()
        async with self._store.reading() as reading:
            remaining = await reading.count_sealed_otherwise(heading)
            if not remaining:
                self._look = _Look()
                return Written(Rotation(0, 0, key_id), 0)
            anew, look = await self._opened(reading, heading, limit)
        written = Written(Rotation(0, remaining, key_id), 0)
        if anew:
            async with self._store.writing() as tx:
                rotated = await tx.replace_envelopes(anew)
                remaining = await tx.count_sealed_otherwise(heading)
                if rotated:
                    # An archived provider's credential is not in the catalog.
                    await tx.announce([provider for provider in rotated if provider.archived_at is None])
            written = Written(Rotation(len(rotated), remaining, key_id), tx.sequence if rotated else 0)
        # Only now: what a write that failed was to encrypt is looked at again.
        self._look = _Look() if look.is_whole else look
        if not anew and look.is_whole and look.unreadable_count:
            raise _unreadable(look.unreadable, look.unreadable_count)
        return written

    async def _opened(self, tx: Reading, heading: bytes, limit: int) -> tuple[dict[str, tuple[bytes, bytes]], _Look]:
        """The next that can be opened, sealed anew, before the lock that all writers wait for; and how far the look has
        come with them."""
        after, count, unreadable = self._look.after, self._look.unreadable_count, list(self._look.unreadable)
        anew: dict[str, tuple[bytes, bytes]] = {}
        left, is_whole = _MAX_LOOKED, False
        while len(anew) < limit and left > 0 and not is_whole:
            wanted = min(_PAGE, limit - len(anew), left)
            found = await tx.sealed_otherwise(heading, after=after, limit=wanted)
            left, is_whole = left - len(found), len(found) < wanted
            for provider in found:
                after = provider.uid
                if provider.envelope is None:
                    continue
                try:
                    envelope = self._vault.sealed_anew(provider.envelope, provider=provider.uid)
                    anew[provider.uid] = (provider.envelope, envelope)
                except Precondition as error:
                    count += 1
                    unreadable += [(provider, error)][: _NAMED - len(unreadable)]
        return anew, _Look(after, count, tuple(unreadable), is_whole)


def _unreadable(found: Sequence[tuple[Provider, Precondition]], count: int) -> Precondition:
    named = ", ".join(provider.name for provider, _ in found)
    more = f" and {count - len(found)} more" if count > len(found) else ""
    return Precondition(
        f"{count} credentials cannot be opened with the registry's keys: {named}{more}. Put the key that they are "
        f"under back into TURNOUT_KEY_ENCRYPTION_KEYS, or store them anew. The first: {found[0][1].message}",
        reason="CREDENTIALS_UNREADABLE",
        providers=named,
    )
