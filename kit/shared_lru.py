"""What was used last, kept in bounded memory that owners share fairly."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class SharedLru(Generic[K, V]):
    """Keeps values while they are in use. Where room is needed, the owner that holds most gives up what it has not used
    for longest: as long as no value is larger than an equal share, nobody who holds less than that loses anything to
    others. For one event loop.

    :param max_bytes: of what all values are said to hold together; the newest is kept whatever its size
    """

    __slots__ = ("_by_size", "_bytes", "_held", "_kept", "_max_bytes")

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: dict[str, OrderedDict[K, tuple[V, int]]] = {}
        self._held: dict[str, int] = {}
        self._bytes = 0
        # What owners held, the largest first; entries that are true no more are passed over.
        self._by_size: list[tuple[int, str]] = []

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def get(self, owner: str, key: K) -> V | None:
        """The value, which counts as used now; None if it is not kept."""
        kept = self._kept.get(owner)
        found = None if kept is None else kept.get(key)
        if kept is None or found is None:
            return None
        kept.move_to_end(key)
        return found[0]

    def put(self, owner: str, key: K, value: V, *, size_bytes: int) -> None:
        """Keep a value, in place of the owner's under the same key. Takes the longer the more it pushes out.

        :param size_bytes: about what it holds in memory
        """
        kept = self._kept.setdefault(owner, OrderedDict())
        before = kept.pop(key, None)
        kept[key] = value, size_bytes
        self._count(owner, size_bytes - (0 if before is None else before[1]))
        while self._bytes > self._max_bytes and (victim := self._largest(owner)) is not None:
            self._forget_oldest(victim)

    def _largest(self, newest_owner: str) -> str | None:
        """Who holds most and can give something up: the owner of the newest keeps that one."""
        passed_over = None
        found = None
        while self._by_size:
            held, owner = self._by_size[0]
            if self._held.get(owner) != -held:
                heapq.heappop(self._by_size)
            elif owner == newest_owner and len(self._kept[owner]) == 1:
                passed_over = heapq.heappop(self._by_size)
            else:
                found = owner
                break
        if passed_over is not None:
            heapq.heappush(self._by_size, passed_over)
        return found

    def _forget_oldest(self, owner: str) -> None:
        _, (_, size_bytes) = self._kept[owner].popitem(last=False)
        self._count(owner, -size_bytes)
        if not self._kept[owner]:
            del self._kept[owner], self._held[owner]

    def _count(self, owner: str, more_bytes: int) -> None:
        self._bytes += more_bytes
        self._held[owner] = held = self._held.get(owner, 0) + more_bytes
        heapq.heappush(self._by_size, (-held, owner))
        if len(self._by_size) > 64 + 4 * len(self._held):
            self._by_size = [(-each, who) for who, each in self._held.items()]
            heapq.heapify(self._by_size)
