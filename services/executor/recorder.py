"""What happened, as events in the process's outbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from google.protobuf.message import Message

from kit.events.outbox import OpenCall, Outbox
from services.executor import convert
from services.executor.domain import Run
from services.executor.payloads import payload
from turnout.events.v1 import request_pb2


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

    def open(self, run: Run) -> Opened:
        """As the port says."""
        event = convert.start_to_proto(run, service_instance=self.service_instance)
        return Opened(self.outbox.open(event, run.project.slug), event)

    def close(self, opened: object, run: Run) -> None:
        """As the port says."""
        start = cast("Opened", opened)
        pieces: list[Message] = []
        if self.captures_payloads and not self.outbox.is_shedding:
            pieces += convert.payload_to_proto(run, payload(run))
        convert.fill_end(start.event, run, payload_shed=self.captures_payloads and not pieces)

        def without() -> None:
            start.event.payload_shed = True

        self.outbox.close_with(start.call, start.event, pieces, without=without)
