"""What is kept of a call, whatever becomes of it."""

from __future__ import annotations

import asyncio
import logging
from types import TracebackType
from typing import Self

from kit.errors import AppError, Deadline
from services.executor import domain
from services.executor.domain import Run, Status
from services.executor.ports import Clock, Recorder

log = logging.getLogger(__name__)


class Record:
    """What is recorded of one call: its start before a provider is called, and how the block ends, whatever it does."""

    __slots__ = ("_clock", "_opened", "_recorder", "is_answered", "run")

    def __init__(self, recorder: Recorder, clock: Clock, run: Run) -> None:
        self.run = run
        self._clock = clock
        self._recorder = recorder
        self._opened: object = None
        self.is_answered = False
        """Whether the answer is there, and paid for: who leaves now changes nothing any more."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        run = self.run
        if error is None:
            self.end(Status.OK, "")
        elif self.is_answered:
            self.end_quietly(Status.OK, "")
        elif isinstance(error, AppError):
            error.metadata.setdefault("request_id", run.request_id)
            self.end(Status.CANCELLED if isinstance(error, Deadline) else Status.ERROR, error.reason)
        elif isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            late = run.call.deadline - self._clock.now() <= domain.DEADLINE_LEAD_SECONDS
            self.end_quietly(Status.CANCELLED, "DEADLINE_EXCEEDED" if late else "CALLER_LEFT")
        else:
            self.end_quietly(Status.ERROR, "INTERNAL")

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
