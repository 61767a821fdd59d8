"""Server-sent events, as they come in (https://html.spec.whatwg.org/multipage/server-sent-events.html). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

MAX_EVENT_BYTES: Final = 4 << 20
"""A provider that never ends an event must not fill the memory."""


class TooLarge(ValueError):
    """An event that does not end."""


class Events:
    """Cuts chunks, wherever they end, into the data of events. Names, ids and comments are left out."""

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The data of every event that is complete now, lines joined by newlines.

        :raises TooLarge: if an event has more than 4 MiB
        """
        # A lone CR may end a line too; no provider does that, and a CR at a chunk's end may belong to a CRLF.
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            raise TooLarge
        for line in lines:
            if line.endswith(b"\r"):
                line = line[:-1]
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                if len(self._data) > 1 and sum(map(len, self._data)) > MAX_EVENT_BYTES:
                    raise TooLarge
            elif not line and self._data:
                data, self._data = b"\n".join(self._data), []
                yield data

    def end(self) -> Iterator[bytes]:
        """The data of a last event whose blank line never came: some servers close right behind it."""
        yield from self.feed(b"\n\n")
