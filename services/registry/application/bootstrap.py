"""The first keys of an installation, which come from its settings."""

from __future__ import annotations

import hmac
import logging
from dataclasses import dataclass, replace

from kit.errors import CannotStart, Unauthenticated
from services.registry.domain import ApiKey, Record, Thing
from services.registry.ports import Clock, Mint, Store, Writing

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BootstrapKey:
    """A key that a setting names."""

    setting: str
    """The variable's name; no two keys share one."""
    text: str
    display_name: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """Keeps the keys of the settings in force."""

    store: Store
    mint: Mint
    now: Clock
    keys: tuple[BootstrapKey, ...]
    """Those that are set. A setting that is empty changes nothing: the key of before stays until it is revoked."""

    async def ensure_keys(self) -> None:
        """Store what is missing and revoke what a setting named before. Idempotent. A key that was revoked stays so.

        :raises CannotStart: if a setting holds no key, or the id of a key that has another origin
        """
        parsed = [(key, *self._parse(key)) for key in self.keys]
        if len({uid for _, uid, _ in parsed}) < len(parsed):
            raise CannotStart(f"{' and '.join(key.setting for key in self.keys)} must be different keys")
        async with self.store.writing() as tx:
            changed: list[Thing] = []
            for key, uid, secret_hash in parsed:
                changed += await self._ensure(tx, key, uid, secret_hash)
            if changed:
                await tx.announce(changed)

    def _parse(self, key: BootstrapKey) -> tuple[str, bytes]:
        try:
            return self.mint.parse(key.text)
        except Unauthenticated:
            raise CannotStart(
                f"{key.setting}: this is not a Turnout key (tk_<id>_<secret>_<checksum>); it may be cut short"
            ) from None

    async def _ensure(self, tx: Writing, key: BootstrapKey, uid: str, secret_hash: bytes) -> list[ApiKey]:
        now = self.now()
        changed: list[ApiKey] = []
        for former in await tx.bootstrap_keys(key.setting):
            if former.uid != uid:
                record = replace(former.record, updated_at=now, changed_in=tx.sequence)
                changed.append(replace(former, revoked_at=now, record=record))
                await tx.replace_api_key(changed[-1])
                log.info("a bootstrap key was replaced", extra={"setting": key.setting, "revoked_key": former.uid})
        found = await tx.any_api_key(uid)
        if found is None:
            record = Record(now, now, tx.sequence, tx.sequence)
            fresh = ApiKey(
                uid=uid,
                project=None,
                display_name=key.display_name,
                scopes=key.scopes,
                secret_hash=secret_hash,
                creator=key.setting,
                expires_at=None,
                revoked_at=None,
                record=record,
                bootstrap=key.setting,
            )
            await tx.add_api_key(fresh)
            return [*changed, fresh]
        if found.bootstrap != key.setting or not hmac.compare_digest(found.secret_hash, secret_hash):
            raise CannotStart(f"{key.setting}: another key has this key's id; make a new one")
        if found.revoked_at is not None:
            log.warning("a bootstrap key was revoked and stays so; set a new one", extra={"setting": key.setting})
        elif found.scopes != key.scopes:
            # A newer Turnout needs more of it, or less.
            record = replace(found.record, updated_at=now, changed_in=tx.sequence)
            changed.append(replace(found, scopes=key.scopes, record=record))
            await tx.replace_api_key(changed[-1])
        return changed
