"""Server-sent events, as they come in (https://html.spec.whatwg.org/multipage/server-sent-events.html). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_DATA: Final = (b"data:", b"error:")
_BLANK: Final = (b"", b"\r")


class TooLarge(ValueError):
    """An event that is larger than allowed, ended or not."""


class Events:
    """Cuts chunks, wherever they end, into the data of events. Names, ids and comments are left out.

    A field `error` is none of the standard's; llama.cpp of 2025 tells in it what went wrong, before its mark of the
    end. It is taken for the data that later builds send: an object whose member `error` it is.

    :param max_event_bytes: of the lines of data of one event, as they come
    """

    __slots__ = ("_data", "_max_event_bytes", "_rest", "_size")

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        """Of the lines that `_data` is from."""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of every event that is complete now, lines joined by newlines.

        :raises TooLarge: if an event is, behind those before it
        """
        # A lone CR may end a line too; no provider does that, and a CR at a chunk's end may belong to a CRLF.
        if self._rest:
            self._rest += chunk
            # Looked through when it ends: again with each small chunk, a long line would take quadratic time.
            chunk = bytes(self._rest) if b"\n" in chunk else b""
        lines = chunk.split(b"\n")
        if (rest := lines.pop()) or (self._rest and lines):
            self._rest = bytearray(rest)
        for line in lines:
            if line.startswith(_DATA):
                self._size += len(line)
                if self._size > self._max_event_bytes:
                    raise TooLarge
                if line.endswith(b"\r"):
                    line = line[:-1]
                if line[:1] == b"e":
                    line = b'data:{"error":' + line[6:] + b"}"
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
            elif line in _BLANK and self._data:
                data, self._data, self._size = b"\n".join(self._data), [], 0
                # An event of nothing is none (9.2.6): relays keep a silent connection alive with these.
                if data:
                    yield data
        if self._size + len(self._rest) > self._max_event_bytes:
            raise TooLarge

    def end(self) -> Iterator[bytes]:
        """The data of a last event whose blank line never came: some servers close right behind it."""
        yield from self.feed(b"\n\n")
