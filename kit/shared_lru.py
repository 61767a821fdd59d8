"""What was used last, kept in bounded memory that owners share fairly."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

O = TypeVar("O")  # noqa: E741  # an owner
K = TypeVar("K")
V = TypeVar("V")


class SharedLru(Generic[O, K, V]):
    """Keeps values while they are in use. Where room is needed, the owner that holds most gives up what it has not used
    for longest: nobody who holds less than an equal share loses anything to others. For one event loop.

    :param max_bytes: of what all values are said to hold together; the newest is kept whatever its size
    """

    __slots__ = ("_bytes", "_held", "_kept", "_max_bytes")

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[O, OrderedDict[K, tuple[V, int]]] = {}
        self._held: dict[O, int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def get(self, owner: O, key: K) -> V | None:
        """The value, which counts as used now; None if it is not kept."""
        kept = self._kept.get(owner)
        found = None if kept is None else kept.get(key)
        if kept is None or found is None:
            return None
        kept.move_to_end(key)
        return found[0]

    def put(self, owner: O, key: K, value: V, *, size_bytes: int) -> None:
        """Keep a value, in place of the owner's under the same key.

        :param size_bytes: about what it holds in memory
        """
        kept = self._kept.setdefault(owner, OrderedDict())
        if key in kept:
            self._forget(owner, key)
            kept = self._kept.setdefault(owner, OrderedDict())
        kept[key] = value, size_bytes
        self._held[owner] = self._held.get(owner, 0) + size_bytes
        self._bytes += size_bytes
        while self._bytes > self._max_bytes and (victim := self._largest(owner)) is not None:
            self._forget(victim, next(iter(self._kept[victim])))

    def _largest(self, newest_owner: O) -> O | None:
        """Who holds most and can give something up: the owner of the newest keeps that one."""
        can_give = (owner for owner in self._held if owner != newest_owner or len(self._kept[owner]) > 1)
        return max(can_give, key=self._held.__getitem__, default=None)

    def _forget(self, owner: O, key: K) -> None:
        size_bytes = self._kept[owner].pop(key)[1]
        self._bytes -= size_bytes
        self._held[owner] -= size_bytes
        if not self._kept[owner]:
            del self._kept[owner], self._held[owner]
