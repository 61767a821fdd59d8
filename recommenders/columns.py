"""What the columns of files are called. Needs no library, so that the command line can tell what is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

USER: Final = ("user_id", "user", "userid")
ITEM: Final = ("item_id", "item", "itemid")
VALUE: Final = ("value", "rating", "weight", "count")
TIME: Final = ("timestamp", "time", "datetime", "date")
TITLE: Final = ("title", "item_title", "movie_title", "name")
"""The usual names, however they are capitalised. A file that has two of one kind does not say which is meant."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns are called. None looks for the usual names, an empty name means that there is none."""

    user: str | None = None
    item: str | None = None
    value: str | None = None
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What was read from a file of interactions: columns as the file names them, without recbole's types."""

    delimiter: str
    user: str
    item: str
    value: str | None
    """None if every row is as much."""
    time: str | None
