"""The port to the event broker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from kit.spool.record import Record


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker has the record; it need not be sent again."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """The broker will never take this record: too large, a bad subject. It is put aside; what follows goes on."""

    reason: str


ACKNOWLEDGED: Final = Acknowledged()
Outcome: TypeAlias = Acknowledged | Rejected


Observer: TypeAlias = Callable[[Sequence[Record]], None]
"""Told of records once: when the broker has them, or never will. For metrics; what it raises is only logged."""


class Publisher(Protocol):
    """Takes records to the broker."""

    async def publish(self, batch: Sequence[Record]) -> Sequence[Outcome]:
        """Publish `batch` in order, pipelined; one outcome per record, in the same order.

        May see a record again, with the same id: after a crash, and when an earlier call raised.

        :raises Exception: any at all means "try again later"; the whole batch is repeated
        """
        ...
