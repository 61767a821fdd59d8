"""What the spool keeps, and how it is written: one frame per append, so that an append is there wholly or not at all.

A frame is `length, CRC32C of the body, CRC32C of those two` (three little-endian 32-bit numbers) and the body. The head
has a checksum of its own because a wrong length would otherwise look like a record that was cut short, and everything
after it would be thrown away as a torn tail.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from typing import NamedTuple, NewType

import google_crc32c
import orjson

from kit import ids
from kit.errors import Invalid
from kit.values import Value, field

_crc32c: Callable[[bytes], int] = google_crc32c.value

_SUMS = struct.Struct("<II")
_HEAD = struct.Struct("<III")
_START = struct.Struct("<B16s")
_EVENTS = struct.Struct("<B16sI")
_EVENT = struct.Struct("<16sIII")
_KIND_START = 1
_KIND_EVENTS = 2
_NO_CALL = bytes(16)

Call = NewType("Call", bytes)
"""A call that was opened: the id of its start, to be handed back when it ends."""


class Event(Value):
    """Something to publish, not yet written."""

    subject: str
    payload: bytes
    headers: dict[str, str] = field(default_factory=dict)
    """Small; for the trace context."""


class Record(Value):
    """An event as it was written."""

    id: str
    """26 characters of :mod:`kit.ids`, made at append, the same in every repetition: what to deduplicate by."""
    subject: str
    payload: bytes
    headers: dict[str, str]

    @property
    def time_ms(self) -> int:
        """Unix time of the append, in milliseconds; for a lost call, of its start."""
        return ids.time_ms_of(self.id)


class Frame(NamedTuple):
    """A readable frame and where it lies in its segment."""

    offset: int
    end: int
    body: bytes


class Mark(NamedTuple):
    """What recovery needs to know of a frame without decoding it."""

    started: Call | None
    ended: Call | None
    records: int
    time_ms: int
    """Of the first record; 0 without one."""


class FlawedError(Exception):
    """A segment cannot be read from `offset` on.

    `is_torn` says that it looks like a last write that was cut short, not like damage.
    """

    def __init__(self, offset: int, *, is_torn: bool) -> None:
        super().__init__(f"unreadable from byte {offset}")
        self.offset = offset
        self.is_torn = is_torn


def new_id() -> bytes:
    return ids.uuid7().to_bytes(16)


def lost_id(call: Call) -> bytes:
    """The id of the event that reports `call` lost: the same on every recovery; a UUIDv7 of the start's time."""
    digest = int.from_bytes(blake2b(call, digest_size=16, person=b"lost call").digest())
    value = int.from_bytes(call[:6]) << 80 | digest & (1 << 80) - 1
    return (value & ~(0xF << 76 | 0b11 << 62) | 0x7 << 76 | 0b10 << 62).to_bytes(16)


def id_text(raw: bytes) -> str:
    return ids.encode(int.from_bytes(raw))


def time_ms_of(raw: bytes) -> int:
    """Unix time in milliseconds at which an id was made."""
    return int.from_bytes(raw[:6])


def encode_start(call: Call, payload: bytes, max_bytes: int) -> bytes:
    """The frame of a call's start.

    :raises Invalid: `RECORD_TOO_LARGE`
    """
    return _frame(_START.pack(_KIND_START, call) + payload, max_bytes)


def encode_events(call: Call | None, events: Sequence[tuple[bytes, Event]], max_bytes: int) -> bytes:
    """The frame of events with their ids; with `call`, also its end.

    :raises Invalid: `RECORD_TOO_LARGE`
    """
    parts = [_EVENTS.pack(_KIND_EVENTS, _NO_CALL if call is None else call, len(events))]
    for raw_id, event in events:
        subject = event.subject.encode()
        headers = orjson.dumps(event.headers) if event.headers else b""
        parts += (_EVENT.pack(raw_id, len(subject), len(headers), len(event.payload)), subject, headers, event.payload)
    return _frame(b"".join(parts), max_bytes)


def frame_bytes(head: bytes) -> int:
    """How long the frame is whose first bytes are `head`; 0 when they do not tell."""
    if len(head) < _HEAD.size:
        return 0
    length, _, check = _HEAD.unpack_from(head)
    return _HEAD.size + length if _crc32c(head[: _SUMS.size]) == check else 0


def frames(data: bytes, offset: int, end: int) -> Iterator[Frame]:
    """The whole frames in `data`, which was read at `offset` from a segment whose content ends at `end`.

    :raises FlawedError: where reading cannot go on; a frame that merely continues behind `data` is no flaw
    """
    position, last = 0, end - offset
    available = min(len(data), last)
    while position < last:
        start = position + _HEAD.size
        if start > available:
            if start > last:
                raise FlawedError(offset + position, is_torn=True)
            return
        length, checksum, check = _HEAD.unpack_from(data, position)
        if _crc32c(data[position : position + _SUMS.size]) != check:
            # After a power cut the file may have grown without its content: zeros up to the end.
            raise FlawedError(offset + position, is_torn=len(data) >= last and not any(data[position:]))
        stop = start + length
        if stop > available:
            if stop > last:
                raise FlawedError(offset + position, is_torn=True)
            return
        body = data[start:stop]
        if _crc32c(body) != checksum:
            raise FlawedError(offset + position, is_torn=stop == last)
        yield Frame(offset + position, offset + stop, body)
        position = stop


def mark_of(frame: Frame) -> Mark:
    """:raises FlawedError: if the frame is of a kind that this version does not know"""
    body = frame.body
    try:
        if body[0] == _KIND_START:
            return Mark(Call(_START.unpack_from(body)[1]), None, 0, 0)
        if body[0] == _KIND_EVENTS:
            _, call, count = _EVENTS.unpack_from(body)
            time_ms = int.from_bytes(body[_EVENTS.size : _EVENTS.size + 6]) if count else 0
            return Mark(None, None if call == _NO_CALL else Call(call), count, time_ms)
    except (struct.error, IndexError):
        pass
    raise FlawedError(frame.offset, is_torn=False)


def start_payload_of(frame: Frame) -> bytes:
    """What was given when the call of this start was opened."""
    return frame.body[_START.size :]


def records_of(frame: Frame) -> list[Record]:
    """The records in a frame; none for a start.

    :raises FlawedError: if the frame is of a kind that this version does not know, or its content makes no sense
    """
    records: list[Record] = []
    body, position = frame.body, _EVENTS.size
    if len(body) >= _START.size and body[0] == _KIND_START:
        return records
    try:
        kind, _, count = _EVENTS.unpack_from(body)
        if kind != _KIND_EVENTS:
            raise FlawedError(frame.offset, is_torn=False)
        for _ in range(count):
            raw_id, subject_bytes, header_bytes, payload_bytes = _EVENT.unpack_from(body, position)
            subject_at = position + _EVENT.size
            headers_at = subject_at + subject_bytes
            payload_at = headers_at + header_bytes
            position = payload_at + payload_bytes
            subject = body[subject_at:headers_at].decode()
            headers = orjson.loads(body[headers_at:payload_at]) if header_bytes else {}
            records.append(Record(id_text(raw_id), subject, body[payload_at:position], headers))
    except (struct.error, ValueError):
        raise FlawedError(frame.offset, is_torn=False) from None
    if position > len(body):
        raise FlawedError(frame.offset, is_torn=False)
    return records


def _frame(body: bytes, max_bytes: int) -> bytes:
    if len(body) > max_bytes:
        raise Invalid(
            f"a record of {len(body)} bytes is larger than the {max_bytes} bytes that the spool takes",
            reason="RECORD_TOO_LARGE",
            bytes=str(len(body)),
            max_bytes=str(max_bytes),
        )
    sums = _SUMS.pack(len(body), _crc32c(body))
    return b"".join((sums, _crc32c(sums).to_bytes(4, "little"), body))
