"""Use cases of stored credentials, of all projects together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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


@dataclass(slots=True)
class _Look:
    """How far this process has looked through the credentials, from the first to the last."""

    after: str = ""
    """The uid of the provider that was looked at last."""
    unreadable_count: int = 0
    unreadable: list[tuple[Provider, Precondition]] = field(default_factory=list)
    """The first of them."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Providers' credentials under the installation's keys."""

    store: Store
    vault: Vault
    _look: _Look = field(default_factory=_Look)

    async def rotate_credentials(self, batch_size: int) -> Written[Rotation]:
        """Encrypt some of those under other keys anew, and announce them: whoever holds both keys opens either state.

        Those that cannot be opened are left behind, and are an error once a look from the first to the last finds
        nothing else. A call looks at 2000 at most, and the next goes on from there.

        :param batch_size: 0 for 100
        :raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`; `CREDENTIALS_UNREADABLE`, naming providers, if all that
            remains cannot be opened
        """
        key_id, heading = self.vault.key_id(), self.vault.heading()
        limit = min(batch_size or DEFAULT_BATCH, MAX_BATCH)
        async with self.store.reading() as reading:
            if not await reading.count_sealed_otherwise(heading):
                return Written(Rotation(0, 0, key_id), 0)
            anew, is_end = await self._opened(reading, heading, limit)
            remaining = await reading.count_sealed_otherwise(heading)
        unreadable, count = tuple(self._look.unreadable), self._look.unreadable_count
        if is_end:
            self._look.after, self._look.unreadable_count = "", 0
            self._look.unreadable.clear()
        if not anew:
            if is_end and count:
                raise _unreadable(unreadable, count)
            return Written(Rotation(0, remaining, key_id), 0)
        async with self.store.writing() as tx:
            rotated = await tx.replace_envelopes(anew)
            remaining = await tx.count_sealed_otherwise(heading)
            if rotated:
                # An archived provider's credential is not in the catalog.
                await tx.announce([provider for provider in rotated if provider.archived_at is None])
        return Written(Rotation(len(rotated), remaining, key_id), tx.sequence if rotated else 0)

    async def _opened(self, tx: Reading, heading: bytes, limit: int) -> tuple[dict[str, tuple[bytes, bytes]], bool]:
        """The next that can be opened, sealed anew, before the lock that all writers wait for; and whether there are no
        more."""
        look = self._look
        anew: dict[str, tuple[bytes, bytes]] = {}
        left = _MAX_LOOKED
        while len(anew) < limit and left > 0:
            count = min(_PAGE, limit - len(anew), left)
            found = await tx.sealed_otherwise(heading, after=look.after, limit=count)
            left -= len(found)
            for provider in found:
                look.after = provider.uid
                if provider.envelope is None:
                    continue
                try:
                    anew[provider.uid] = (
                        provider.envelope,
                        self.vault.sealed_anew(provider.envelope, provider=provider.uid),
                    )
                except Precondition as error:
                    look.unreadable_count += 1
                    if len(look.unreadable) < _NAMED:
                        look.unreadable.append((provider, error))
            if len(found) < count:
                return anew, True
        return anew, False


def _unreadable(found: Sequence[tuple[Provider, Precondition]], count: int) -> Precondition:
    named = ", ".join(provider.name for provider, _ in found)
    more = f" and {count - len(found)} more" if count > len(found) else ""
    return Precondition(
        f"{count} credentials cannot be opened with the registry's keys: {named}{more}. Put the key that they are "
        f"under back into TURNOUT_KEY_ENCRYPTION_KEYS, or store them anew. The first: {found[0][1].message}",
        reason="CREDENTIALS_UNREADABLE",
        providers=named,
    )
