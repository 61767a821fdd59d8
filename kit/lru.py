"""What was used last, kept in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Lru(Generic[K, V]):
    """Keeps values while they are in use; the one unused for longest goes first. For one event loop.

    :param max_entries: how many are kept
    :param max_bytes: of what they are said to hold together; the newest is kept whatever its size. None: no bound
    """

    __slots__ = ("_bytes", "_kept", "_max_bytes", "_max_entries")

    def __init__(self, *, max_entries: int, max_bytes: int | None = None) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: K) -> V | None:
        """The value, which counts as used now; None if it is not kept."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V, *, size_bytes: int = 0) -> None:
        """Keep a value, in place of one under the same key.

        :param size_bytes: about what it holds in memory
        """
        before = self._kept.pop(key, None)
        if before is not None:
            self._bytes -= before[1]
        self._kept[key] = value, size_bytes
        self._bytes += size_bytes
        while len(self._kept) > 1 and self._is_full():
            self._bytes -= self._kept.popitem(last=False)[1][1]

    def _is_full(self) -> bool:
        return len(self._kept) > self._max_entries or (self._max_bytes is not None and self._bytes > self._max_bytes)
