"""JSON documents, one a line, as they come in (https://github.com/ndjson/ndjson-spec). Pure."""

from __future__ import annotations

from collections.abc import Iterator

from services.executor.providers.sse import MAX_EVENT_BYTES, TooLarge


class Lines:
    """Cuts chunks, wherever they end, into lines. Empty ones are left out."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Every line that is complete now.

        :raises TooLarge: if a line has more than 4 MiB
        """
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > MAX_EVENT_BYTES:
            raise TooLarge
        for line in lines:
            if stripped := line.strip():
                yield stripped

    def end(self) -> Iterator[bytes]:
        """A last line without its end."""
        yield from self.feed(b"\n")
