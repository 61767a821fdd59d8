"""What is kept of a call, whatever becomes of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from kit.errors import AppError, Deadline
from services.executor import domain
from services.executor.domain import Run, Status
from services.executor.ports import Clock, Recorder

log = logging.getLogger(__name__)


class Record:
    """What is recorded of one call: its start before a provider is called, and its end, whatever happened before."""

    __slots__ = ("_clock", "_opened", "_recorder", "run")

    def __init__(self, recorder: Recorder, clock: Clock, run: Run) -> None:
        self.run = run
        self._clock = clock
        self._recorder = recorder
        self._opened: object = None

    def open(self) -> None:
        """Write the start.

        :raises Unavailable: `SPOOL_FULL`
        """
        self._opened = self._recorder.open(self.run)

    def end(self, status: Status, reason: str) -> None:
        """Write the end.

        :raises Unavailable: if it cannot be recorded
        """
        run = self.run
        run.status, run.reason = status, reason
        run.latency_us = domain.microseconds(self._clock.now() - run.started)
        if self._opened is None:
            self.open()
        self._recorder.close(self._opened, run)

    def end_quietly(self, status: Status, reason: str) -> None:
        """The same, when something is on its way out that nothing may replace."""
        try:
            self.end(status, reason)
        except AppError as error:
            log.warning(
                "the end of a call cannot be recorded",
                extra={"request_id": self.run.request_id, "reason": error.reason},
            )


@contextmanager
def recorded(recorder: Recorder, clock: Clock, run: Run) -> Iterator[Record]:
    """Records how the block ends, whatever it does."""
    record = Record(recorder, clock, run)
    try:
        yield record
    except AppError as error:
        error.metadata.setdefault("request_id", run.request_id)
        status = Status.CANCELLED if isinstance(error, Deadline) else Status.ERROR
        record.end(status, error.reason)
        raise
    except (asyncio.CancelledError, GeneratorExit):
        late = run.call.deadline - clock.now() <= domain.DEADLINE_LEAD_SECONDS
        record.end_quietly(Status.CANCELLED, "DEADLINE_EXCEEDED" if late else "CALLER_LEFT")
        raise
    except BaseException:
        record.end_quietly(Status.ERROR, "INTERNAL")
        raise
    record.end(Status.OK, "")
