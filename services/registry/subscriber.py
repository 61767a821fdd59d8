"""Events in, use cases out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from kit.events.delivery import Delivery, Unusable
from kit.events.subjects import subject_of_all_tenants
from kit.metrics import Metrics
from services.registry.application.sightings import Misnamed, Sightings, Taken
from services.registry.convert.sightings import Malformed, sighting_of
from services.registry.domain import Sighting
from turnout.events.v1 import version_pb2 as events_pb

log = logging.getLogger(__name__)

DURABLE: Final = "registry"
SUBJECTS: Final = (subject_of_all_tenants(events_pb.VersionSeen),)
BATCH_EVENTS: Final = 200
"""A version is large, and one that is new takes milliseconds to check."""


class Subscriber:
    """Takes batches of events."""

    def __init__(self, sightings: Sightings, measured: Metrics) -> None:
        self._sightings = sightings
        counter = measured.counter(
            "turnout_registry_versions_seen", "Versions that calls told of, by what became of it.", ("outcome",)
        )
        self._stored, self._known = counter.series("stored"), counter.series("known")
        self._homeless, self._rejected = counter.series("homeless"), counter.series("rejected")

    async def handle(self, batch: Sequence[Delivery]) -> None:
        """Take a batch.

        :raises Unusable: naming events that are malformed, or whose version is not what they say; nothing has happened
        :raises Unavailable: later; it may be repeated
        :raises Conflict: later; it may be repeated
        """
        seen: list[Sighting] = []
        malformed: list[tuple[Delivery, str]] = []
        for delivery in batch:
            try:
                seen.append(sighting_of(delivery.payload))
            except Malformed as error:
                malformed.append((delivery, str(error)))
        if malformed:
            raise Unusable(malformed)
        try:
            taken = await self._sightings.take(seen)
        except Misnamed as error:
            raise Unusable([(batch[index], reason) for index, reason in error.found]) from None
        self._count(taken)

    async def on_poison(self, delivery: Delivery, error: Exception) -> None:
        """Count an event that cannot be taken. The consumer logs where it lies in the stream, which keeps it."""
        self._rejected.value += 1

    def _count(self, taken: Taken) -> None:
        self._stored.value += taken.stored
        self._known.value += taken.known
        self._homeless.value += taken.homeless
        if taken.homeless:
            log.warning(
                "versions of projects or providers that do not exist are dropped", extra={"events": taken.homeless}
            )
