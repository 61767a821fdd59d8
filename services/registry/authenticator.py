"""Who calls the registry: whoever follows the catalog is checked against the database, all others against the view.

The view is what a follower is about to get: this very process follows itself, and before its first view, or with an old
copy from disk that a changed key is not in, nobody could begin to follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from catalog.convert import change_from_proto
from catalog.keys import CatalogAuthenticator, Watched, parse
from catalog.view import View
from kit.calls import Call, Principal
from services.registry.convert.catalog import catalog_entries, entry_from_change
from services.registry.ports import Store

FOLLOWER_SCOPE: Final = "catalog:watch"


class RegistryAuthenticator:
    """Checks keys for a process that holds the registry."""

    def __init__(self, store: Store, catalog: Watched, now_ms: Callable[[], float]) -> None:
        """:param catalog: this process's own, in which uses of keys are noted, whoever checked them"""
        self._store = store
        self._catalog = catalog
        self._otherwise = CatalogAuthenticator(catalog, now_ms)
        self._now_ms = now_ms

    async def authenticate(self, key: str, call: Call) -> Principal:
        """Who presents `key`.

        :raises Unauthenticated: as :class:`CatalogAuthenticator`
        :raises Unavailable: if the database, or for other rpcs the catalog, cannot be asked now
        """
        if call.method.scope != FOLLOWER_SCOPE:
            return await self._otherwise.authenticate(key, call)
        uid, _ = parse(key)
        stored = _OneKey(await self._view_of(uid), self._catalog)
        return await CatalogAuthenticator(stored, self._now_ms).authenticate(key, call)

    async def _view_of(self, uid: str) -> View:
        async with self._store.reading() as tx:
            found = await tx.any_api_key(uid)
        # What a follower would be told of it.
        told = [] if found is None else catalog_entries(found)
        return View().with_changes(0, [change_from_proto(entry_from_change(key, value)) for key, value in told])


@dataclass(frozen=True, slots=True)
class _OneKey:
    """A catalog of what the database says now."""

    view: View
    catalog: Watched

    @property
    def key_uses(self) -> dict[str, float]:
        return self.catalog.key_uses

    def usable_view(self) -> View:
        return self.view

    async def reach(self, sequence: int, call: Call) -> None:
        """Nothing is newer than the database."""
