"""How deployments are found: the words of a filter, the text that they are looked for in, and the order. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.registry.domain.access import violated

MAX_WORDS: Final = 20
MAX_TEXT_BYTES: Final = 1 << 16
MAX_KEY_LENGTH: Final = 100
"""In characters: what a page token holds must fit one, however its characters are written."""
_DIRECTIONS: Final = {"asc": False, "desc": True}


class SortKey(StrEnum):
    """What a list of deployments can be ordered by."""

    NAME = "name"
    PROVIDER = "provider"
    MODEL = "model"
    CREATE_TIME = "create_time"
    UPDATE_TIME = "update_time"


@dataclass(frozen=True, slots=True)
class Order:
    """Equal keys are ordered by uid, in the same direction."""

    key: SortKey = SortKey.CREATE_TIME
    is_descending: bool = False

    @property
    def is_numeric(self) -> bool:
        """Whether a cursor's first part is a number: a sequence, or microseconds since 1970."""
        return self.key in (SortKey.CREATE_TIME, SortKey.UPDATE_TIME)


@dataclass(frozen=True, slots=True)
class DeploymentSearch:
    """Which deployments, in which order."""

    words: tuple[str, ...] = ()
    """All must occur; folded."""
    order: Order = Order()
    with_archived: bool = False


def order_of(text: str) -> Order:
    """What an `order_by` says: a key, with `asc` or `desc` behind it.

    :raises Invalid: `ORDER_BY_INVALID`
    """
    key, *direction = text.split() or [SortKey.CREATE_TIME]
    if key not in set(SortKey) or len(direction) > 1 or not _DIRECTIONS.keys() >= set(direction):
        keys = ", ".join(SortKey)
        raise violated(
            "ORDER_BY_INVALID", "order_by", f"must be one of {keys}, with ' asc' or ' desc' behind it or not"
        )
    return Order(SortKey(key), any(_DIRECTIONS[each] for each in direction))


def words_of(text: str) -> tuple[str, ...]:
    """The distinct words of a filter, as :func:`searchable_text` writes them.

    :raises Invalid: `FILTER_TOO_LONG`
    """
    words = tuple(dict.fromkeys(_folded(text).split()))
    if len(words) > MAX_WORDS:
        raise violated("FILTER_TOO_LONG", "filter", f"has {len(words)} words; at most {MAX_WORDS} are looked for")
    return words


def searchable_text(parts: Iterable[str]) -> str:
    """The distinct words of the parts, in their order, as many as fit 64 KiB of UTF-8.

    Case is folded here rather than by the database, whose collation may know the ASCII letters only.
    """
    words = dict.fromkeys(word for part in parts for word in _folded(part).split())
    kept, left = [], MAX_TEXT_BYTES
    for word in words:
        left -= len(word.encode()) + 1
        if left < 0:
            break
        kept.append(word)
    return " ".join(kept)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold())
