"""`--workers N`: a parent that spawns N processes on one port and keeps them alive.

They are spawned, not forked, before grpc is imported: gRPC's threads do not survive a fork. The kernel spreads new
connections over them (SO_REUSEPORT); each has its own spool folder and instance id.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

WORKER_ENV: Final = "TURNOUT_WORKER_PIPE"
"""Set by the parent for a worker: the descriptor of the pipe that tells it that the parent lives."""

CANNOT_START: Final = 2
"""Exit status of a worker that has said why it cannot start: the next one could not either."""

_SOUND_SECONDS: Final = 5.0
"""A worker that has lived so long is taken to serve."""
_MAX_CRASHES: Final = 5
_MAX_PAUSE_SECONDS: Final = 5.0
_STOPS: Final = frozenset({signal.SIGTERM, signal.SIGINT})


def reserve_port(address: str) -> tuple[socket.socket, str]:
    """Bind, without listening, so that port 0 becomes one number for all workers.

    :return: the socket, to be kept open, and the address with the number
    :raises OSError: if the address is taken
    """
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    place = (host.strip("[]"), int(port))
    # A port that may be shared is shared with strangers of the same user too: first see whether anybody has it.
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(place)
    holder = socket.socket(family, socket.SOCK_STREAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        holder.setsockopt(socket.SOL_SOCKET, option, 1)
    holder.bind(place)
    return holder, f"{host}:{holder.getsockname()[1]}"


def run(command: Sequence[str], count: int, *, environment: dict[str, str]) -> int:
    """Run `count` workers until SIGTERM or SIGINT, restarting those that crash.

    While a sound worker is left, a crashed one is tried again for ever, with growing pauses.

    :return: 0 after a signal; 2 when workers say that they cannot start; 1 when they crash again and again at once
    """
    wake, wake_write = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_STOPS):
        signal.signal(number, _note)
    pool = _Pool(command, count, environment)
    while not pool.is_over():
        select.select([wake], [], [], pool.seconds_to_next_start())
        if _STOPS.intersection(_numbers(wake)):
            pool.stop(0)
        pool.look_after()
    return pool.status


class _Pool:
    def __init__(self, command: Sequence[str], count: int, environment: dict[str, str]) -> None:
        # Nobody writes to it: its end-of-file tells the workers that we are gone.
        self._read_end, self._write_end = os.pipe()
        self._command = command
        self._environment = {**environment, WORKER_ENV: str(self._read_end)}
        self._workers: dict[subprocess.Popen[bytes], float] = {}
        self._due = [time.monotonic()] * count
        self._crashes = 0
        self._is_stopping = False
        self.status = 0

    def is_over(self) -> bool:
        return self._is_stopping and not self._workers

    def seconds_to_next_start(self) -> float | None:
        return max(0.0, min(self._due) - time.monotonic()) if self._due else None

    def stop(self, status: int) -> None:
        """Ask all workers to end; the first stop decides the status."""
        if not self._is_stopping:
            self._is_stopping, self.status = True, status
            self._due.clear()
        for process in self._workers:
            process.terminate()

    def look_after(self) -> None:
        """Take note of workers that ended, and start those that are due."""
        now = time.monotonic()
        for process, started in list(self._workers.items()):
            if process.poll() is not None:
                del self._workers[process]
                if not self._is_stopping:
                    self._on_end(process.returncode, now, now - started)
        for due in [due for due in self._due if due <= now]:
            self._due.remove(due)
            process = subprocess.Popen(  # noqa: S603  # our own command line
                self._command, env=self._environment, pass_fds=(self._read_end,)
            )
            self._workers[process] = now

    def _on_end(self, status: int, now: float, seconds: float) -> None:
        # Bounded, because the pause is made of its power of two.
        self._crashes = min(self._crashes + 1, 10) if seconds < _SOUND_SECONDS else 1
        if not any(now - started >= _SOUND_SECONDS for started in self._workers.values()):
            if status == CANNOT_START:
                return self.stop(CANNOT_START)
            if self._crashes >= _MAX_CRASHES:
                print("workers end right after their start; giving up", file=sys.stderr)
                return self.stop(1)
        self._due.append(now + min(0.1 * 2 ** (self._crashes - 1), _MAX_PAUSE_SECONDS))
        return None


def _note(_number: int, _frame: object) -> None:
    """Exists so that the wake-up descriptor is written."""


def _numbers(wake: int) -> bytes:
    try:
        return os.read(wake, 512)
    except BlockingIOError:
        return b""
