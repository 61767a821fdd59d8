"""What happened, as events in the process's outbox."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, cast

from google.protobuf.message import Message

from kit.events.outbox import OpenCall, Outbox
from kit.lru import Lru
from kit.values import Value
from services.executor.convert import events
from services.executor.domain import Run
from services.executor.payloads import payload
from services.executor.traces import PastTraces
from turnout.events.v1 import request_pb2

_REMEMBERED: Final = 10_000
_TELL_AGAIN_NS: Final = 24 * 3600 * 10**9
"""What is not seen for long expires, so what runs on and on is told of every day."""


class Opened(Value):
    """A start that was written; its event becomes the end's."""

    call: OpenCall
    event: request_pb2.RequestServed

    def shed(self) -> None:
        """Note that what was said is not kept."""
        self.event.payload_shed = True


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
    _told: Lru[tuple[str, str], int] = field(default_factory=lambda: Lru(max_entries=_REMEMBERED))
    """When versions were told of last, by project and uid, so that each is not told of with every call."""

    def open(self, run: Run) -> Opened:
        """As the port says."""
        event = events.start_to_proto(run, service_instance=self.service_instance)
        return Opened(self.outbox.open(event, run.project.slug), event)

    def close(self, opened: object, run: Run) -> None:
        """As the port says."""
        start = cast("Opened", opened)
        tells_version = self._is_untold(run)
        keeps_payload = self.captures_payloads and not self.outbox.is_shedding
        extras: list[Message] = []
        if tells_version:
            extras.append(events.version_seen_to_proto(run))
        if keeps_payload:
            extras += events.payload_to_proto(run, payload(run))
        events.fill_end(start.event, run, payload_shed=self.captures_payloads and not keeps_payload)
        if self.past is not None:
            self.past.consider(run)
        is_whole = self.outbox.close_with(start.call, start.event, extras, without=start.shed)
        # Only now: what could not be written must be told by the next call.
        if tells_version and is_whole:
            self._told.put((run.project.uid, run.version), run.start_unix_ns)

    def _is_untold(self, run: Run) -> bool:
        """Whether a version ran that the registry may not know."""
        if run.seen_version is None or not run.attempts:
            return False
        told = self._told.get((run.project.uid, run.version))
        return told is None or run.start_unix_ns - told >= _TELL_AGAIN_NS
