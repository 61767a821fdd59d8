"""What the three servers of the stack have in common: a folder, a port, a log, and one way to start and stop."""

from __future__ import annotations

import contextlib
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pwd import struct_passwd
from types import TracebackType
from typing import ClassVar, Self

from kit.errors import Precondition, Unavailable
from stack.folder import is_free_port, remembered_port
from stack.supervisor import SIGNALED, Child

_POLL_SECONDS = 0.02
_QUOTED_LINES = 15


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server's process; the fields mean what they mean to `Child.start`."""

    command: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    user: struct_passwd | None = None
    stop_signal: signal.Signals = signal.SIGTERM


class Server(ABC):
    """A server in a process of its own that dies with this one.

    Its data and its port belong to its folder: a restart, after a crash too, has both again. All calls block.
    """

    name: ClassVar[str]
    ready_seconds: ClassVar[float]
    """How long :meth:`start` waits before it gives up."""

    def __init__(self, folder: Path) -> None:
        """:param folder: the server's own; made on first use, and not shared with another server"""
        self.folder = folder.resolve()
        self._child: Child | None = None
        self._port: int | None = None
        self._log_offset = 0

    @property
    def port(self) -> int:
        """Loopback TCP port; chosen on first use and kept."""
        if self._port is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._port = remembered_port(self.folder)
        return self._port

    @property
    def log_path(self) -> Path:
        """Where everything that the server prints is appended."""
        return self.folder / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Process id of the server.

        :raises Precondition: `SERVER_NOT_STARTED`
        """
        if self._child is None:
            raise Precondition(f"{self.name} is not started", reason="SERVER_NOT_STARTED", server=self.name)
        return self._child.pid

    def alive(self) -> bool:
        """Whether its process runs."""
        return self._child is not None and self._child.alive()

    @property
    def ending(self) -> str:
        """How its process came to its end, as the end of a sentence that begins with its name."""
        status = None if self._child is None else self._child.exit_status()
        if status is None:
            return "does not run"
        number = -status if status < 0 else status - SIGNALED
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(number).name}"
        return f"ended by itself with status {status}"

    def start(self) -> None:
        """Start it and return once it serves. Does nothing while it runs; after a stop or a crash it recovers.

        :raises Precondition: `STACK_GROUP_MISSING` and what the server itself adds
        :raises Unavailable: `SERVER_START_FAILED` with the last lines of its log
        """
        if self.alive():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._log_offset = self.log_path.stat().st_size if self.log_path.exists() else 0
        try:
            self._child = self._run(self._launch())
            self._wait_until_it_serves(self._child)
        except BaseException:  # a Ctrl-C as well: nobody else knows of the child yet
            self.stop()
            raise

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Ask it to end; kill it after `timeout_seconds`. Does nothing when it does not run."""
        child, self._child = self._child, None
        if child is not None:
            child.stop(timeout_seconds)

    def kill(self) -> None:
        """End it as a crash would, with SIGKILL; :meth:`start` recovers."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _launch(self) -> Launch:
        """Prepare the folder and say what to run."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether this very server, not another one on the same port, serves. Returns within about a second."""

    def _run(self, launch: Launch) -> Child:
        try:
            return Child.start(
                launch.command,
                env=launch.env,
                cwd=launch.cwd,
                user=launch.user,
                stop_signal=launch.stop_signal,
                log_path=self.log_path,
            )
        except OSError as error:
            raise self._failure(f"could not be started: {error}") from error

    def _wait_until_it_serves(self, child: Child) -> None:
        deadline = time.monotonic() + self.ready_seconds
        while not self._answers():
            if not child.alive():
                cause = "" if is_free_port(self.port) else f", and port {self.port} is in use"
                raise self._failure(f"ended before it served{cause}")
            if time.monotonic() > deadline:
                raise self._failure(f"did not serve within {self.ready_seconds:g} s")
            time.sleep(_POLL_SECONDS)

    def _new_log_text(self) -> str:
        """What was logged since the last call of :meth:`start`."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(self._log_offset)
                return log.read().decode(errors="replace")
        except FileNotFoundError:
            return ""

    def _failure(self, what: str) -> Unavailable:
        lines = self._new_log_text().splitlines()[-_QUOTED_LINES:]
        quoted = "".join(f"\n  {line}" for line in lines) or " (nothing)"
        return Unavailable(
            f"{self.name} {what}; the end of {self.log_path}:{quoted}", reason="SERVER_START_FAILED", server=self.name
        )
