"""Events in, use cases out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kit.events.delivery import Delivery, Unusable
from kit.events.subjects import subject_of_all_tenants, type_of
from services.analytics.application.ingestion import Ingestion
from services.analytics.convert import Malformed, piece_of, request_of
from services.analytics.domain.request import PayloadPiece, Rejection, Request
from turnout.events.v1 import request_pb2 as events_pb

DURABLE: Final = "analytics"
SUBJECTS: Final = (
    subject_of_all_tenants(events_pb.RequestServed),
    subject_of_all_tenants(events_pb.RequestPayload),
)

_SERVED: Final = events_pb.RequestServed.DESCRIPTOR.full_name


class Subscriber:
    """Takes batches of events."""

    def __init__(self, ingestion: Ingestion) -> None:
        self._ingestion = ingestion

    async def handle(self, batch: Sequence[Delivery]) -> None:
        """Take a batch, in one transaction.

        :raises Unusable: naming events that are malformed; nothing has happened
        :raises Unavailable: later; nothing has happened
        :raises Conflict: later; nothing has happened
        """
        requests: list[Request] = []
        pieces: list[PayloadPiece] = []
        malformed: list[tuple[Delivery, str]] = []
        for delivery in batch:
            try:
                if type_of(delivery.subject) == _SERVED:
                    requests.append(request_of(delivery.id, delivery.payload))
                else:
                    pieces.append(piece_of(delivery.id, delivery.payload))
            except Malformed as error:
                malformed.append((delivery, str(error)))
        if malformed:
            raise Unusable(malformed)
        await self._ingestion.take(requests, pieces)

    async def on_poison(self, delivery: Delivery, error: Exception) -> None:
        """Keep an event that cannot be taken in the table `rejected_events`."""
        await self._ingestion.reject(
            Rejection(delivery.id, delivery.subject, delivery.stream_sequence, str(error), delivery.payload)
        )
