"""Reads HTTP/1.1 answers and server-sent events, as cheaply as Python can. It trusts the server in the rest."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

_HEAD_END: Final = b"\r\n\r\n"
_MAX_HEAD_BYTES: Final = 64 << 10
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[^\r]*chunked[ \t]*\r\n", re.IGNORECASE)
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")
_LENGTH_UNKNOWN: Final = -1


class BadAnswer(Exception):
    """What came is not what was asked for; says what did."""


class AnswerReader:
    """The answers of one connection, one at a time."""

    __slots__ = ("_buffer", "_missing", "is_complete", "status")

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Expect the next answer."""
        self._buffer = b""
        self._missing: int | None = None
        self.status = 0
        """0 until the head is there."""
        self.is_complete = False

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body that `data` completes; whole chunks, if it comes in chunks.

        :raises BadAnswer: if it is no HTTP, says not how long it is, or is longer than it says
        """
        if self.is_complete:
            raise BadAnswer(f"more came than was asked for: {data[:200]!r}")
        if self._missing is None:
            self._buffer = self._buffer + data if self._buffer else data
            head_end = self._buffer.find(_HEAD_END)
            if head_end < 0:
                if len(self._buffer) > _MAX_HEAD_BYTES:
                    raise BadAnswer(f"a head without an end: {self._buffer[:200]!r}")
                return b""
            self._read_head(self._buffer[: head_end + 2])
            data, self._buffer = self._buffer[head_end + 4 :], b""
        if self._missing == _LENGTH_UNKNOWN:
            return self._read_chunks(data)
        assert self._missing is not None
        if len(data) > self._missing:
            raise BadAnswer(f"{len(data) - self._missing} bytes came behind the end of a body")
        self._missing -= len(data)
        self.is_complete = self._missing == 0
        return data

    def _read_head(self, head: bytes) -> None:
        status = _STATUS.match(head)
        if status is None:
            raise BadAnswer(f"no HTTP: {head[:200]!r}")
        self.status = int(status[1])
        if _CHUNKED.search(head):
            self._missing = _LENGTH_UNKNOWN
        elif length := _LENGTH.search(head):
            self._missing = int(length[1])
        else:
            raise BadAnswer(f"an answer that does not say how long it is: {head[:500]!r}")

    def _read_chunks(self, data: bytes) -> bytes:
        buffer = self._buffer + data if self._buffer else data
        pieces, position = [], 0
        while (line_end := buffer.find(b"\r\n", position)) >= 0:
            try:
                size = int(buffer[position:line_end].partition(b";")[0], 16)
            except ValueError:
                raise BadAnswer(f"no size of a chunk: {buffer[position:line_end][:50]!r}") from None
            if size == 0:
                # Behind the last chunk there may be trailers; an empty line ends it all.
                end = buffer.find(_HEAD_END, line_end)
                if end < 0:
                    break
                position, self.is_complete = end + 4, True
                if position < len(buffer):
                    raise BadAnswer(f"{len(buffer) - position} bytes came behind the last chunk")
                break
            end = line_end + 2 + size
            if len(buffer) < end + 2:
                break
            if buffer[end : end + 2] != b"\r\n":
                raise BadAnswer("a chunk is longer than it says")
            pieces.append(buffer[line_end + 2 : end])
            position = end + 2
        self._buffer = buffer[position:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def content_of(status: int, body: bytes) -> str:
    """What the first choice of a `chat.completion` says.

    :raises BadAnswer: unless it is a 200 with a choice that says something
    """
    if status != 200:
        raise BadAnswer(f"status {status}: {body[:500].decode(errors='replace')}")
    try:
        content = orjson.loads(body)["choices"][0]["message"]["content"]
    except (ValueError, TypeError, LookupError):
        content = None
    if not isinstance(content, str) or not content:
        raise BadAnswer(f"an answer without a choice that says something: {body[:500].decode(errors='replace')}")
    return content


class StreamReader:
    """The server-sent events of one streamed completion."""

    __slots__ = ("_buffer", "is_done", "pieces")

    def __init__(self) -> None:
        self._buffer = b""
        self.pieces: list[str] = []
        """What was said so far."""
        self.is_done = False
        """Whether `[DONE]` was read."""

    def feed(self, data: bytes) -> None:
        """Read the events that `data` completes.

        :raises BadAnswer: an event that is no chunk of a completion, or anything behind the end
        """
        events = (self._buffer + data if self._buffer else data).split(b"\n\n")
        self._buffer = events.pop()
        for event in events:
            if not event.startswith(b"data: ") or self.is_done:
                raise BadAnswer(f"an event that does not belong here: {event[:200]!r}")
            if event == b"data: [DONE]":
                self.is_done = True
            elif content := _delta_content(event[6:]):
                self.pieces.append(content)

    def check(self, pieces: int) -> None:
        """:raises BadAnswer: unless the stream ended well and had so many pieces"""
        if not self.is_done or self._buffer:
            raise BadAnswer(f"a stream ended without [DONE], after {len(self.pieces)} pieces")
        if len(self.pieces) != pieces:
            raise BadAnswer(f"a stream had {len(self.pieces)} pieces instead of {pieces}")


def _delta_content(event: bytes) -> str:
    try:
        chunk: Any = orjson.loads(event)
        choices = chunk["choices"]
        return (choices[0]["delta"].get("content") or "") if choices else ""
    except (ValueError, TypeError, LookupError, AttributeError):
        raise BadAnswer(f"an event that is no chunk: {event[:500].decode(errors='replace')}") from None
