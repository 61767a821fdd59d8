"""What happened, as events in the process's outbox."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, cast

from google.protobuf.message import Message

from kit.events.outbox import OpenCall, Outbox
from services.executor.convert import events
from services.executor.domain import Run
from services.executor.payloads import payload
from services.executor.traces import PastTraces
from turnout.events.v1 import request_pb2

_REMEMBERED: Final = 10_000
_TELL_AGAIN_NS: Final = 24 * 3600 * 10**9
"""What is not seen for long expires, so what runs on and on is told of every day."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A start that was written; its event becomes the end's."""

    call: OpenCall
    event: request_pb2.RequestServed


@dataclass(frozen=True, slots=True)
class OutboxRecorder:
    """Writes one RequestServed per call, and what was said as RequestPayload beside it.

    :param service_instance: the id of this process
    :param captures_payloads: whether what was said is kept
    """

    outbox: Outbox
    service_instance: str
    captures_payloads: bool
    past: PastTraces | None = None
    """Who tells traces of errors and slow calls; None: nobody."""
    _told: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict)
    """When versions were told of last, by project and uid, so that each is not told of with every call."""

    def open(self, run: Run) -> Opened:
        """As the port says."""
        event = events.start_to_proto(run, service_instance=self.service_instance)
        return Opened(self.outbox.open(event, run.project.slug), event)

    def close(self, opened: object, run: Run) -> None:
        """As the port says."""
        start = cast("Opened", opened)
        pieces: list[Message] = []
        if run.seen_version is not None and self._is_new(run):
            pieces.append(events.version_seen_to_proto(run))
        said: list[request_pb2.RequestPayload] = []
        if self.captures_payloads and not self.outbox.is_shedding:
            said = events.payload_to_proto(run, payload(run))
        events.fill_end(start.event, run, payload_shed=self.captures_payloads and not said)

        def without() -> None:
            start.event.payload_shed = True

        if self.past is not None:
            self.past.consider(run)
        self.outbox.close_with(start.call, start.event, [*pieces, *said], without=without)

    def _is_new(self, run: Run) -> bool:
        key, now = (run.project.uid, run.version), run.start_unix_ns
        told = self._told.get(key)
        if told is not None and now - told < _TELL_AGAIN_NS:
            return False
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return True
