"""JSON documents, one a line, as they come in (https://github.com/ndjson/ndjson-spec). Pure."""

from __future__ import annotations

from collections.abc import Iterator

from services.executor.providers.sse import TooLarge


class Lines:
    """Cuts chunks, wherever they end, into lines. Empty ones are left out.

    :param max_line_bytes: of one line, without its end
    """

    __slots__ = ("_max_line_bytes", "_rest")

    def __init__(self, max_line_bytes: int) -> None:
        self._max_line_bytes = max_line_bytes
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Every line that is complete now.

        :raises TooLarge: if a line is, behind those before it
        """
        if self._rest:
            self._rest += chunk
            # Looked through when it ends: again with each small chunk, a long line would take quadratic time.
            chunk = bytes(self._rest) if b"\n" in chunk else b""
        lines = chunk.split(b"\n")
        if (rest := lines.pop()) or (self._rest and lines):
            self._rest = bytearray(rest)
        for line in lines:
            if len(line) > self._max_line_bytes:
                raise TooLarge
            if stripped := line.strip():
                yield stripped
        if len(self._rest) > self._max_line_bytes:
            raise TooLarge

    def end(self) -> Iterator[bytes]:
        """A last line without its end."""
        yield from self.feed(b"\n")
