"""Use cases of stored credentials, of all projects together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from kit.errors import Precondition
from services.registry.application.access import Written
from services.registry.domain import Provider
from services.registry.ports import Store, Vault, Writing

DEFAULT_BATCH: Final = 100
MAX_BATCH: Final = 1000
_PAGE: Final = 200
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
class Credentials:
    """Providers' credentials under the installation's keys."""

    store: Store
    vault: Vault

    async def rotate_credentials(self, batch_size: int) -> Written[Rotation]:
        """Encrypt some of those under other keys anew, and announce them: whoever holds both keys opens either state.

        Those that cannot be opened are left behind, and are an error once nothing else remains.

        :param batch_size: 0 for 100
        :raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`; `CREDENTIALS_UNREADABLE`, naming providers, if all that
            remains cannot be opened
        """
        key_id, heading = self.vault.key_id(), self.vault.heading()
        limit = min(batch_size or DEFAULT_BATCH, MAX_BATCH)
        async with self.store.reading() as tx:
            if not await tx.count_sealed_otherwise(heading):
                return Written(Rotation(0, 0, key_id), 0)
        async with self.store.writing() as writing:
            rotated, unreadable = await self._rotate(writing, heading, limit)
            if not rotated and unreadable:
                raise _unreadable(unreadable)
            remaining = await writing.count_sealed_otherwise(heading)
            # An archived provider's credential is not in the catalog.
            await writing.announce([provider for provider in rotated if provider.archived_at is None])
        return Written(Rotation(len(rotated), remaining, key_id), writing.sequence)

    async def _rotate(
        self, tx: Writing, heading: bytes, limit: int
    ) -> tuple[Sequence[Provider], Sequence[tuple[Provider, Precondition]]]:
        rotated: list[Provider] = []
        unreadable: list[tuple[Provider, Precondition]] = []
        after = ""
        while len(rotated) < limit:
            found = await tx.sealed_otherwise(heading, after=after, limit=min(_PAGE, limit - len(rotated)))
            if not found:
                break
            for provider in found:
                after = provider.uid
                if provider.envelope is None:
                    continue
                try:
                    envelope = self.vault.sealed_anew(provider.envelope, provider=provider.uid)
                except Precondition as error:
                    unreadable.append((provider, error))
                    continue
                anew = replace(provider, envelope=envelope)
                await tx.replace_envelope(anew)
                rotated.append(anew)
        return rotated, unreadable


def _unreadable(found: Sequence[tuple[Provider, Precondition]]) -> Precondition:
    named = ", ".join(provider.name for provider, _ in found[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return Precondition(
        f"{len(found)} credentials cannot be opened with the registry's keys: {named}{more}. Put the key that they are "
        f"under back into TURNOUT_KEY_ENCRYPTION_KEYS, or store them anew. The first: {found[0][1].message}",
        reason="CREDENTIALS_UNREADABLE",
        providers=named,
    )
