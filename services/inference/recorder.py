"""What happened, as events in the process's outbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from google.protobuf.message import Message

from kit.events.outbox import OpenCall, Outbox
from services.inference import convert
from services.inference.domain import Recommendation
from services.inference.payloads import payload
from turnout.events.v1 import request_pb2


@dataclass(frozen=True, slots=True)
class Opened:
    """A start that was written; its event becomes the end's."""

    call: OpenCall
    event: request_pb2.RequestServed


@dataclass(frozen=True, slots=True)
class OutboxRecorder:
    """Writes one RequestServed per call, and what was recommended as RequestPayload beside it.

    :param service_instance: the id of this process
    :param captures_payloads: whether what was recommended is kept
    """

    outbox: Outbox
    service_instance: str
    captures_payloads: bool

    def open(self, recommendation: Recommendation) -> Opened:
        """As the port says."""
        event = convert.start_to_proto(recommendation, service_instance=self.service_instance)
        return Opened(self.outbox.open(event, recommendation.project.slug), event)

    def close(self, opened: object, recommendation: Recommendation) -> None:
        """As the port says."""
        start = cast("Opened", opened)
        pieces: list[Message] = []
        # A call without an answer has nothing to keep that its record does not say.
        is_kept = self.captures_payloads and recommendation.answer is not None
        if is_kept and not self.outbox.is_shedding:
            pieces += convert.payload_to_proto(recommendation, payload(recommendation))
        convert.fill_end(start.event, recommendation, payload_shed=is_kept and not pieces)

        def without() -> None:
            start.event.payload_shed = True

        self.outbox.close_with(start.call, start.event, pieces, without=without)
