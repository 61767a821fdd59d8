"""What a service announces: typed events into the process's spool, and from there to the broker."""

from __future__ import annotations

import logging
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import Message
from opentelemetry.trace import SpanKind

from kit import calls, config
from kit.errors import CannotStart, Unavailable
from kit.events.broker import broker
from kit.events.config import EventsConfig
from kit.events.measured import readings_of
from kit.events.publisher import JetStreamPublisher
from kit.events.subjects import subject_of, type_of
from kit.metrics import Metrics, metrics
from kit.runtime import Runtime
from kit.spool import Call, Event, Record, Spool, SpoolOptions, Usage
from kit.telemetry import TraceContext, Tracing
from kit.values import Value

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 5.0
"""How long a stop waits for the broker to take the last events; what it did not take stays on disk."""
TRACE_HEADER: Final = "traceparent"

_START = struct.Struct("<BHH")
_START_FORMAT: Final = 1

# As many as types of event times projects. Any: mypy asks for the hash of a class's objects instead of the class's.
_subject_of: Callable[[Any, str], str] = lru_cache(maxsize=1024)(subject_of)


class OpenCall(Value):
    """A call whose start is written and whose end is not."""

    call: Call
    tenant_slug: str


class Outbox:
    """Events of one process. Every method returns once the kernel has the bytes: no waiting, no network."""

    def __init__(self, spool: Spool, tracing: Tracing | None = None) -> None:
        """:param tracing: for spans of events on their way; None for no spans"""
        self._spool = spool
        self._tracing = tracing

    def open(self, lost: Message, tenant_slug: str) -> OpenCall:
        """Write the start of a call.

        :param lost: the event to publish if no end is ever written, because this process dies: by then nobody is left
            who knows more
        :raises Unavailable: `SPOOL_FULL` or `SPOOL_UNWRITABLE`: the call must not be served
        """
        call = calls.current_or_none()
        trace = "" if call is None else call.trace.traceparent()
        start = _start(_subject_of(type(lost), tenant_slug), trace, lost.SerializeToString())
        return OpenCall(self._spool.open_call(start), tenant_slug)

    def close(self, opened: OpenCall, *events: Message) -> None:
        """Write the end of a call with what it leaves behind, all or nothing, in one write.

        :raises Unavailable: `SPOOL_FULL` or `SPOOL_UNWRITABLE`; may be tried again
        :raises Invalid: `RECORD_TOO_LARGE`
        """
        self._spool.close_call(opened.call, self._sent(events, opened.tenant_slug))

    def close_with(
        self, opened: OpenCall, event: Message, extras: Sequence[Message], *, without: Callable[[], None]
    ) -> bool:
        """As :meth:`close`; but if the disk has no room for `extras` any more, they are left out: what happened matters
        more than what was said.

        :param without: told before that, to note it in `event`
        :return: whether `extras` are written
        """
        try:
            self._spool.close_call(opened.call, self._sent([event, *extras], opened.tenant_slug))
        except Unavailable:
            if not extras:
                raise
            without()
            self.close(opened, event)
            return False
        return True

    def append(self, event: Message, tenant_slug: str) -> Record:
        """Write an event that belongs to no call.

        :raises Unavailable: `SPOOL_FULL` or `SPOOL_UNWRITABLE`
        :raises Invalid: `RECORD_TOO_LARGE`
        """
        (sent,) = self._sent((event,), tenant_slug)
        return self._spool.append(sent)

    def _sent(self, messages: Sequence[Message], tenant_slug: str) -> list[Event]:
        """Events on their way, named after the first. In a sampled call they have a span, which whoever takes one of
        them continues."""
        call = calls.current_or_none()
        place = None if call is None else call.trace
        if place is None or not place.sampled or self._tracing is None or not messages:
            return _events(messages, tenant_slug, place)
        name = messages[0].DESCRIPTOR.full_name
        attributes: dict[str, str | int] = {
            "messaging.system": "nats",
            "messaging.operation.name": "send",
            "messaging.destination.name": subject_of(type(messages[0]), tenant_slug),
        }
        if len(messages) > 1:
            attributes["messaging.batch.message_count"] = len(messages)
        with self._tracing.span(f"send {name}", SpanKind.PRODUCER, attributes) as span:
            return _events(messages, tenant_slug, span.place if span.is_recorded else place)

    @property
    def is_shedding(self) -> bool:
        """Whether payloads should be left out, because the spool is nearly full."""
        return self._spool.is_shedding

    @property
    def usage(self) -> Usage:
        """The spool's books, for metrics."""
        return self._spool.usage


def start_of(event: Event) -> bytes:
    """What is written at a call's start, so that recovery can publish `event` without knowing what it is."""
    return _start(event.subject, event.headers.get(TRACE_HEADER, ""), event.payload)


def _start(subject: str, trace: str, payload: bytes) -> bytes:
    named, traced = subject.encode(), trace.encode()
    return b"".join((_START.pack(_START_FORMAT, len(named), len(traced)), named, traced, payload))


def lost_event_of(start: bytes) -> Event:
    """The inverse of :func:`start_of`.

    :raises ValueError: if another version wrote it
    """
    try:
        version, subject_bytes, trace_bytes = _START.unpack_from(start)
    except struct.error:
        raise ValueError("not the start of a call") from None
    if version != _START_FORMAT:
        raise ValueError(f"the start of a call in format {version}")
    subject_end = _START.size + subject_bytes
    trace_end = subject_end + trace_bytes
    trace = start[subject_end:trace_end].decode()
    headers = {TRACE_HEADER: trace} if trace else {}
    return Event(start[_START.size : subject_end].decode(), start[trace_end:], headers)


@asynccontextmanager
async def outbox(runtime: Runtime) -> AsyncIterator[Outbox]:
    """The process's outbox; made once (`await runtime.shared(outbox)`).

    :raises CannotStart: if TURNOUT_DATA_DIR is not set, or its folder `spool` cannot be used
    """
    settings = config.load(EventsConfig)
    options = SpoolOptions(
        root=_root(settings.data_dir),
        root_setting="TURNOUT_DATA_DIR",
        bound_bytes=settings.spool_max_bytes,
        fsync=settings.spool_fsync,
    )
    connected = await runtime.shared(broker)
    measured = await runtime.shared(metrics)
    spool = Spool(options, lost=lost_event_of)
    measured.read(lambda: readings_of(spool.usage))
    relay = spool.run(JetStreamPublisher(connected), lambda records: _observe(measured, records))
    try:
        async with runtime.background("events: relay", relay):
            yield Outbox(spool, runtime.tracing)
            # Without a broker there is nothing to wait for: the next start relays what is left.
            if connected.is_connected and not await spool.drain(DRAIN_SECONDS):
                log.warning("events are left for the next start", extra={"records": spool.usage.pending_records})
    finally:
        spool.close()


def _observe(measured: Metrics, records: Sequence[Record]) -> None:
    for record in records:
        for observer in measured.event_observers(type_of(record.subject)):
            observer(record.payload)


def _root(data_dir: Path | None) -> Path:
    """The folder of the spool, made if the volume is there. The volume itself is never made: a folder in its place
    would look right and be gone with the container."""
    if data_dir is None:
        raise CannotStart("TURNOUT_DATA_DIR is not set: name a writable folder on a volume that outlives the process")
    root = data_dir / "spool"
    try:
        root.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise CannotStart(
            f"TURNOUT_DATA_DIR: {data_dir} cannot be used ({error.strerror}): "
            "name a writable folder on a volume that outlives the process"
        ) from error
    return root


def _events(messages: Sequence[Message], tenant_slug: str, place: TraceContext | None) -> list[Event]:
    headers = {} if place is None else {TRACE_HEADER: place.traceparent()}
    return [
        Event(_subject_of(type(message), tenant_slug), message.SerializeToString(), headers) for message in messages
    ]
