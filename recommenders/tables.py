"""Files of rows: CSV and TSV, read in pieces, with errors that say which line.

Commas, semicolons and bars separate as in RFC 4180, with quotes; between tabs a quote is a character like any other.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Final, Protocol, TextIO, TypeAlias, TypeVar

from kit.errors import Invalid

Row: TypeAlias = list[str]
Read = TypeVar("Read")
Progress: TypeAlias = Callable[[float], None]
"""Told how much of the work is done, from 0 to 1."""

DELIMITERS: Final = ("\t", ",", ";", "|")
MAX_LINE_CHARACTERS: Final = 1 << 20
ROWS_AT_A_TIME: Final = 1 << 16
_RECBOLE_TYPES: Final = ("token", "token_seq", "float", "float_seq")


class Table:
    """One file.

    :param subject: how reasons begin, such as `INTERACTIONS`
    :param delimiter: None finds out which of :data:`DELIMITERS` the first line has most of
    """

    def __init__(self, path: Path, *, subject: str, delimiter: str | None = None) -> None:
        self.path, self._subject = path, subject
        if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n\0'):
            raise self.fault("DELIMITER", "the delimiter must be one character, and no quote or end of a line")
        with self._opened() as file:
            first = self._decoded(lambda: next(self._lines(file), ""))
        self.delimiter = delimiter or max(DELIMITERS, key=first.count)
        self.columns = tuple(_name(column) for row in self._rows(self._parsed(iter([first])), 1) for column in row)
        if not any(self.columns):
            raise self.fault("EMPTY", "is empty; its first line must name the columns")

    def column(self, name: str | None, usual: Sequence[str], option: str) -> int | None:
        """Where a column is.

        :param name: what it is called; None looks for one of `usual`, an empty name means that there is none
        :param option: what a person sets to name it
        :return: None if there is none
        :raises Invalid: `…_COLUMN_UNKNOWN` or `…_COLUMN_AMBIGUOUS`
        """
        if name == "":
            return None
        if name is None:
            fitting = list(dict.fromkeys(column for column in self.columns if column.lower() in usual))
            if not fitting:
                return None
            if len(fitting) > 1:
                names = " and ".join((", ".join(map(repr, fitting[:-1])), repr(fitting[-1])))
                raise self.fault(
                    "COLUMN_AMBIGUOUS", f"{names} could each be meant; name the right one with {option}", 1
                )
            [name] = fitting
        if name not in self.columns:
            raise self._unknown(f"has no column {name!r}", option)
        if self.columns.count(name) > 1:
            raise self.fault("COLUMN_AMBIGUOUS", f"has {self.columns.count(name)} columns named {name!r}", 1)
        return self.columns.index(name)

    def required(self, name: str | None, usual: Sequence[str], option: str) -> int:
        """The same for a column that there must be."""
        if (found := self.column(name, usual, option)) is None:
            raise self._unknown(f"has no column {' or '.join(repr(each) for each in usual)}", option)
        return found

    def batches(self, progress: Progress) -> Iterator[Batch]:
        """The rows behind the header, blank lines left out.

        :raises Invalid: `…_ENCODING` or `…_MALFORMED`, with the line
        """
        size = max(self.path.stat().st_size, 1)
        with self._opened() as file:
            reader = self._parsed(self._lines(file))
            rows = self._rows(reader, 1)
            while rows:
                before = reader.line_num
                if rows := self._rows(reader, ROWS_AT_A_TIME):
                    batch = self._batch(before + 1, rows)
                    if batch.rows:
                        yield batch
                    progress(min(file.buffer.tell() / size, 1.0))

    def fault(self, reason: str, message: str, line: int | None = None) -> Invalid:
        """What is wrong with the file, and where."""
        reason, file = f"{self._subject}_{reason}", str(self.path)
        if line is None:
            return Invalid(f"{file}: {message}", reason=reason, file=file)
        return Invalid(f"{file}, line {line}: {message}", reason=reason, file=file, line=str(line))

    def _unknown(self, message: str, option: str) -> Invalid:
        names = ", ".join(self.columns[:50])
        return self.fault("COLUMN_UNKNOWN", f"{message}; its columns are: {names}. Name the right one with {option}", 1)

    def _opened(self) -> TextIO:
        try:
            return open(self.path, encoding="utf-8-sig", newline="")
        except OSError as error:
            raise self.fault("UNREADABLE", f"cannot be read: {error.strerror}") from None

    def _lines(self, file: TextIO) -> Iterator[str]:
        number = 0
        while line := file.readline(MAX_LINE_CHARACTERS + 1):
            number += 1
            if len(line) > MAX_LINE_CHARACTERS:
                raise self.fault("MALFORMED", f"is longer than {MAX_LINE_CHARACTERS} characters", number)
            yield line

    def _parsed(self, lines: Iterator[str]) -> _Reader:
        if self.delimiter == "\t":
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=True)
        return csv.reader(lines, delimiter=self.delimiter, strict=True)

    def _rows(self, reader: _Reader, count: int) -> list[Row]:
        try:
            return self._decoded(lambda: list(islice(reader, count)))
        except csv.Error as error:
            raise self.fault("MALFORMED", f"cannot be taken apart: {error}", reader.line_num) from None

    def _decoded(self, read: Callable[[], Read]) -> Read:
        try:
            return read()
        except UnicodeDecodeError as error:
            # Text is decoded a piece ahead, so the line has to be looked for.
            with open(self.path, "rb") as file:
                numbered = enumerate(iter(lambda: file.readline(MAX_LINE_CHARACTERS), b""), 1)
                line = next((number for number, data in numbered if not _is_utf8(data)), None)
            message = f"is not UTF-8 ({error.reason}); convert the file, for example with iconv"
            raise self.fault("ENCODING", message, line) from None

    def _batch(self, line: int, rows: list[Row]) -> Batch:
        batch = Batch(self, line, rows)
        width = len(self.columns)
        if set(map(len, batch.rows)) - {width}:
            number, row = next((number, row) for number, row in enumerate(batch.rows) if len(row) != width)
            raise batch.fault("MALFORMED", number, f"has {len(row)} fields, but the first line has {width}")
        return batch


class Batch:
    """Some rows of a table that follow one another."""

    def __init__(self, table: Table, line: int, rows: list[Row]) -> None:
        self._table, self._line, self._all = table, line, rows
        self.rows = rows if all(rows) else [row for row in rows if row]

    def column(self, place: int) -> list[str]:
        """One field of each row."""
        return list(map(itemgetter(place), self.rows))

    def fault(self, reason: str, number: int, message: str) -> Invalid:
        """What is wrong with one of the rows."""
        line, left = self._line, number
        for row in self._all:
            if row and not left:
                break
            left -= bool(row)
            line += 1 + sum(field.count("\n") for field in row)
        return self._table.fault(reason, message, line)


class _Reader(Protocol):
    """What `csv.reader` makes."""

    @property
    def line_num(self) -> int: ...

    def __iter__(self) -> Iterator[Row]: ...

    def __next__(self) -> Row: ...


def _name(column: str) -> str:
    """A column's name; recbole's have their type behind a colon."""
    name, colon, kind = column.strip().rpartition(":")
    return name if colon and kind in _RECBOLE_TYPES else column.strip()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
