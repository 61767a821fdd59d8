"""Interactions: who had to do with what, from a file of rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import compress, islice
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recommenders import columns as usual
from recommenders.checks import MAX_ID_LENGTH, MAX_TITLE_LENGTH
from recommenders.columns import Columns, Taken
from recommenders.manifest import MAX_ROWS
from recommenders.model import Float32s, Int32s
from recommenders.tables import Batch, Progress, Table
from recommenders.texts import Texts

Float64s: TypeAlias = NDArray[np.float64]

_BY_USUAL_NAMES: Final = Columns()
MAX_VALUE: Final = 1e9
"""Of one row's value: a confidence, not an amount."""


@dataclass(frozen=True, slots=True, eq=False)
class Interactions:
    """Different pairs of user and item, by user and then item. Users and items are rows in the order of their ids."""

    user_ids: Texts
    item_ids: Texts
    users: Int32s
    items: Int32s
    values: Float32s
    """How much: the sum of what the file's rows for the pair say, 1 a row without such a column."""
    times: Float64s | None
    """When, in the file's unit or seconds since 1970: the latest of the pair. None without such a column."""
    row_count: int
    """Rows of the file."""
    left_out_count: int
    """Rows whose value was below the least wanted."""
    taken: Taken

    def __len__(self) -> int:
        return len(self.users)

    @property
    def repeat_count(self) -> int:
        """Rows that named a pair again and were merged into its first, if these are all of the file's."""
        return self.row_count - self.left_out_count - len(self)


@dataclass(frozen=True, slots=True)
class Titles:
    """What the items are called."""

    texts: Texts
    """One an item; empty where there is none."""
    cut_count: int
    """How many were too long and were cut."""


def read_interactions(
    path: Path,
    *,
    columns: Columns = _BY_USUAL_NAMES,
    min_value: float | None = None,
    delimiter: str | None = None,
    progress: Progress = lambda _: None,
) -> Interactions:
    """Read a CSV or TSV file whose first line names the columns (recbole's `name:type` is understood).

    Needs 32 bytes a row beside what the different ids take.

    :param min_value: rows with less are left out; None takes all
    :param delimiter: None finds out
    :raises Invalid: a reason that begins with `INTERACTIONS_`, with the file, and the line where there is one
    """
    table = Table(path, subject="INTERACTIONS", delimiter=delimiter)
    user = table.required(columns.user, usual.USER, "--user-column")
    item = table.required(columns.item, usual.ITEM, "--item-column")
    value = table.column(columns.value, usual.VALUE, "--value-column")
    time = table.column(columns.time, usual.TIME, "--time-column")
    if min_value is not None and value is None:
        raise table.fault("COLUMN_UNKNOWN", "has no column with values that --min-value could go by", 1)
    users, items = _Ids("user", user), _Ids("item", item)
    pieces: list[tuple[Int32s, Int32s, Float32s, Float64s]] = []
    clock, row_count, kept_count = _Clock(), 0, 0
    for batch in table.batches(progress):
        values = _values(batch, value, min_value)
        kept = np.ones(len(values), dtype=bool) if min_value is None else values >= min_value
        times = clock.read(batch, time)
        pieces.append(
            (users.codes(batch, kept), items.codes(batch, kept), values[kept].astype(np.float32), times[kept])
        )
        row_count += len(values)
        kept_count += int(kept.sum())
        if max(len(users), len(items), kept_count) > MAX_ROWS:
            raise table.fault("TOO_MANY", f"has more than {MAX_ROWS} users, items or rows")
    if not kept_count:
        why = f"none of its {row_count} rows has a value of {min_value:g}" if row_count else "no row follows the first"
        raise table.fault("EMPTY", f"has no interactions: {why}")
    joined = [np.concatenate([piece[part] for piece in pieces]) for part in range(4)]
    del pieces
    user_ids, user_rows = users.in_order(joined[0])
    item_ids, item_rows = items.in_order(joined[1])
    taken = Taken(
        table.delimiter,
        table.columns[user],
        table.columns[item],
        None if value is None else table.columns[value],
        None if time is None else table.columns[time],
    )
    merged = _merged(user_rows, item_rows, joined[2], joined[3], len(item_ids))
    return Interactions(
        user_ids, item_ids, *merged[:3], None if time is None else merged[3], row_count, row_count - kept_count, taken
    )


def read_titles(
    path: Path,
    item_ids: Texts,
    *,
    item_column: str | None = None,
    title_column: str | None = None,
    delimiter: str | None = None,
    progress: Progress = lambda _: None,
) -> Titles:
    """The items' titles, from a file of the same kind: empty for items that it does not have, the last one if it has
    several, cut after 1000 characters. Items that nobody interacted with are passed over.

    :raises Invalid: a reason that begins with `TITLES_`
    """
    table = Table(path, subject="TITLES", delimiter=delimiter)
    item = table.required(item_column, usual.ITEM, "--title-item-column")
    title = table.required(title_column, usual.TITLE, "--title-column")
    wanted = {each: row for row, each in enumerate(item_ids)}
    titles = [""] * len(item_ids)
    cut: set[int] = set()
    for batch in table.batches(progress):
        for row in batch.rows:
            if (found := wanted.get(row[item])) is not None:
                text = row[title].replace("\0", "").strip()
                titles[found] = text[:MAX_TITLE_LENGTH]
                (cut.add if len(text) > MAX_TITLE_LENGTH else cut.discard)(found)
    return Titles(Texts.of(titles), len(cut))


class _Ids:
    """Numbers for ids, in the order in which they come."""

    def __init__(self, whose: str, column: int) -> None:
        self._whose, self._column = whose, column
        self._codes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._codes)

    def codes(self, batch: Batch, kept: NDArray[np.bool_]) -> Int32s:
        codes, column, known = self._codes, self._column, len(self._codes)
        ids = compress(batch.column(column), kept.tolist())
        found = np.array([codes.setdefault(each, len(codes)) for each in ids], dtype=np.int32)
        # A new id is looked at once, wherever it stands.
        for each in islice(reversed(codes), len(codes) - known):
            if fault := _fault(each):
                raise batch.fault("BAD_ID", batch.column(column).index(each), f"the {self._whose}'s id {fault}")
        return found

    def in_order(self, codes: Int32s) -> tuple[Texts, Int32s]:
        """The ids in the order of their bytes, which is that of their characters, and the codes as rows of them."""
        ids = sorted(self._codes)
        rows = np.empty(len(ids), dtype=np.int32)
        rows[[self._codes[each] for each in ids]] = np.arange(len(ids), dtype=np.int32)
        return Texts.of(ids), rows[codes]


def _fault(each: str) -> str:
    if not each:
        return "is empty"
    if len(each) > MAX_ID_LENGTH:
        return f"is longer than {MAX_ID_LENGTH} characters"
    return "has a NUL character" if "\0" in each else ""


def _values(batch: Batch, column: int | None, min_value: float | None) -> Float64s:
    if column is None:
        return np.ones(len(batch.rows))
    texts = batch.column(column)
    try:
        values = np.array(texts, dtype=np.float64)
    except ValueError:
        number = next(number for number, text in enumerate(texts) if not _is_number(text))
        raise batch.fault("BAD_VALUE", number, f"the value {texts[number][:60]!r} is not a number") from None
    # Only what is kept has to be positive.
    bad = ~(np.abs(values) <= MAX_VALUE) | ((values <= 0) & (values >= (-np.inf if min_value is None else min_value)))
    if bad.any():
        number = int(np.argmax(bad))
        message = f"the value {texts[number][:60]!r} is not a number above 0 and up to {MAX_VALUE:g}"
        hint = "; --min-value leaves smaller ones out" if values[number] <= 0 else ""
        raise batch.fault("BAD_VALUE", number, message + hint)
    return values


class _Clock:
    """Reads times: numbers in any unit, or ISO 8601; the first row says which."""

    def __init__(self) -> None:
        self._numbers: bool | None = None

    def read(self, batch: Batch, column: int | None) -> Float64s:
        if column is None:
            return np.zeros(len(batch.rows))
        texts = batch.column(column)
        if self._numbers is None:
            self._numbers = _is_number(texts[0])
        try:
            times = np.array(texts if self._numbers else [_seconds(text) for text in texts], dtype=np.float64)
        except ValueError:
            times = np.array([math.nan])
        if not np.isfinite(times).all():
            read = float if self._numbers else _seconds
            number = next(number for number, text in enumerate(texts) if not _is_number(text, read))
            kind = "a number, as the first row has it" if self._numbers else "a time such as 2024-01-31T12:00:00Z"
            raise batch.fault("BAD_TIME", number, f"the time {texts[number][:60]!r} is not {kind}")
        return times


def _seconds(text: str) -> float:
    moment = datetime.fromisoformat(text.strip())
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _is_number(text: str, read: Callable[[str], float] = float) -> bool:
    try:
        return math.isfinite(read(text))
    except (ValueError, OverflowError):
        return False


def _merged(
    users: Int32s, items: Int32s, values: Float32s, times: Float64s, item_count: int
) -> tuple[Int32s, Int32s, Float32s, Float64s]:
    """One row a pair: values are summed, the latest time stays. Somebody who came twice counts twice."""
    pairs = users.astype(np.int64) * item_count + items
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    starts = np.flatnonzero(np.diff(pairs, prepend=-1))
    first = order[starts]
    return (
        users[first],
        items[first],
        np.add.reduceat(values[order], starts, dtype=np.float32),
        np.maximum.reduceat(times[order], starts),
    )
