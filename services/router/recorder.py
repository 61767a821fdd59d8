"""What was tried, as events in the process's outbox."""

from __future__ import annotations

from dataclasses import dataclass

from kit.events.outbox import Outbox
from services.router import convert
from services.router.domain import Simulated


@dataclass(frozen=True, slots=True)
class OutboxRecorder:
    """Writes one RequestServed, with the source SIMULATOR, per call that was tried alone.

    :param service_instance: the id of this process
    """

    outbox: Outbox
    service_instance: str

    def record(self, simulated: Simulated) -> None:
        """As the port says."""
        event = convert.served_to_proto(simulated, service_instance=self.service_instance)
        self.outbox.append(event, simulated.trace.target.project.slug)
