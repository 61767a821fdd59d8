"""Runs one command so that it dies with us, however we die.

Two halves share this file. :class:`Child` is ours: it runs this very file as a light process of its own (standard
library only), which in turn starts the real command. Between the two is a pipe whose write end nobody but us holds:
when we end, by a kill -9 too, the kernel closes it, the supervisor reads end-of-file and stops everything below itself.

PR_SET_PDEATHSIG alone would not do: a change of user clears it, it reaches one generation only, and it follows the
*thread* that started the child. It is still set, behind the change of user, in case the supervisor itself is killed.

Through the pipe go `stop <seconds>` and `kill`, one a line; on the supervisor's standard output comes back
`started <pid>` or `failed <errno>`.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from pwd import struct_passwd
from typing import ClassVar

GRACE_SECONDS = 5.0
"""How long a child may take to stop by itself once its parent is gone."""

_ANSWER_SECONDS = 10.0  # a supervisor answers within milliseconds; this bounds the wait for a broken or starved one
_POLL_SECONDS = 0.02
SIGNALED = 128  # exit status of a command ended by signal n is 128 + n, as shells have it


class OwnedDescriptor:
    """A descriptor that this process alone keeps: exec closes it, and so does a fork, in the child.

    Without the second, a process forked without exec (multiprocessing, for one) would hold our end of the pipe open
    after our death. In such a process the object counts as closed, so that it never touches a number reused since.
    """

    _all: ClassVar[weakref.WeakSet[OwnedDescriptor]] = weakref.WeakSet()

    def __init__(self, number: int) -> None:
        os.set_inheritable(number, False)
        self._number: int | None = number
        OwnedDescriptor._all.add(self)

    @property
    def is_closed(self) -> bool:
        return self._number is None

    def write(self, data: bytes) -> None:
        """Write to it; silently nothing if it is closed or nobody reads any more."""
        if self._number is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._number, data)

    def close(self) -> None:
        """Close it. Idempotent."""
        number, self._number = self._number, None
        if number is not None:
            os.close(number)

    def __del__(self) -> None:
        self.close()

    @classmethod
    def close_all(cls) -> None:
        """Close every one there is; runs in the child of every fork."""
        for descriptor in list(cls._all):
            descriptor.close()


os.register_at_fork(after_in_child=OwnedDescriptor.close_all)


class Child:
    """A running command under its supervisor. Made by :meth:`start`."""

    def __init__(self, pid: int, supervisor: subprocess.Popen[bytes], control: OwnedDescriptor) -> None:
        self.pid = pid
        """Process id of the command itself, not of its supervisor."""
        self._supervisor = supervisor
        self._control = control

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log_path: Path,
        user: struct_passwd | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> Child:
        """Start `command`; its output is appended to `log_path`.

        The log is locked for as long as any process of the command lives, so a second child with the same log starts
        only once the last process of the first is gone.

        :param command: an absolute path and its arguments
        :param env: the whole environment; nothing is added
        :param user: whom to become (user and group, no other groups); None stays who we are
        :param stop_signal: what asks the command to end by itself
        :raises OSError: if it cannot be started, as `subprocess.Popen` would; `TimeoutError` if the log stays locked
        """
        identity = f"{user.pw_uid}:{user.pw_gid}" if user else "-"
        log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _wait_for_lock(log, log_path)
            read_end, write_end = os.pipe()
            control = OwnedDescriptor(write_end)
            try:
                supervisor = subprocess.Popen(
                    [sys.executable, "-I", "-S", __file__, str(read_end), str(int(stop_signal)), identity, *command],
                    env=env,
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    pass_fds=[read_end],
                    start_new_session=True,  # a Ctrl-C in the terminal is for us; we stop the child in our own order
                )
            except BaseException:
                control.close()
                raise
            finally:
                os.close(read_end)
        finally:
            os.close(log)
        word, _, number = _first_line(supervisor).partition(" ")
        if word == "started":
            return cls(int(number), supervisor, control)
        control.close()
        try:
            supervisor.wait(_ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            supervisor.kill()
            supervisor.wait()
        if word == "failed":
            raise OSError(int(number), os.strerror(int(number)), command[0])
        raise OSError(f"the supervisor of {command[0]} did not start it; see {log_path}")

    def alive(self) -> bool:
        """Whether the command runs. Always False in a process forked from the one that started it."""
        return not self._control.is_closed and self._supervisor.poll() is None

    def exit_status(self) -> int | None:
        """As shells have it: 128 + n after signal n; None while it runs."""
        return self._supervisor.poll()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        """Ask the command to end, kill it and everything it started after `timeout_seconds`. Idempotent.

        :raises TimeoutError: if it outlives even that
        """
        self._control.write(f"stop {timeout_seconds}\n".encode())
        self.wait(timeout_seconds + _ANSWER_SECONDS)

    def kill(self) -> None:
        """End the command as a crash would: SIGKILL, nothing is asked or told. Returns once it is gone. Idempotent.

        :raises TimeoutError: if it is not gone within seconds
        """
        self._control.write(b"kill\n")
        self.wait(_ANSWER_SECONDS)

    def wait(self, timeout_seconds: float) -> int | None:
        """Wait for the command and everything it started to end.

        :return: its exit status, 128 + n if signal n ended it; None in a process that does not own it
        :raises TimeoutError: if it still runs after `timeout_seconds`
        """
        if not self._control.is_closed:
            try:
                self._supervisor.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"process {self.pid} still runs after {timeout_seconds:g} s") from None
            self._control.close()
        return self._supervisor.returncode


def _wait_for_lock(log: int, path: Path) -> None:
    deadline = time.monotonic() + _ANSWER_SECONDS
    while True:
        try:
            return fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"another process still writes {path}") from None
            time.sleep(_POLL_SECONDS)


def _first_line(supervisor: subprocess.Popen[bytes]) -> str:
    assert supervisor.stdout is not None
    with supervisor.stdout as answers:
        ready, _, _ = select.select([answers], [], [], _ANSWER_SECONDS)
        return answers.readline().decode().rstrip("\n") if ready else ""


def supervise(control: int, stop_signal: int, identity: str, command: Sequence[str]) -> int:
    """Run `command` until it ends or must be stopped, then end whatever it left behind.

    :param control: descriptor of the pipe's read end
    :param identity: `uid:gid` to become, or `-`
    :return: the exit status to forward
    """
    # Both are inherited through exec: a parent that waits for signals has them blocked, a background job ignores
    # SIGINT. A handler, unlike SIG_IGN, is reset to the default when the command is executed.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    wake, wake_write = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write)
    stops = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT}
    for number in (signal.SIGCHLD, *stops):
        signal.signal(number, _note)
    _adopt_orphans()

    try:
        child = _spawn(command, stop_signal, identity)
    except OSError as error:
        _answer(f"failed {error.errno}\n")
        return 127
    _answer(f"started {child.pid}\n")

    watched, deadline, pending = [wake, control], float("inf"), b""
    while True:
        timeout = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
        ready, _, _ = select.select(watched, [], [], timeout)
        grace: float | None = None
        if wake in ready:
            numbers = os.read(wake, 512)
            if signal.SIGCHLD in numbers and (status := _reap(child.pid)) is not None:
                child.returncode = status
                _end_descendants(child.pid)
                return status if status >= 0 else SIGNALED - status
            if stops.intersection(numbers):
                grace = GRACE_SECONDS
        if control in ready:
            data = os.read(control, 512)
            *lines, pending = (pending + data).split(b"\n")
            if not data:
                watched.remove(control)
                grace = GRACE_SECONDS
            for line in lines:
                grace = 0.0 if line == b"kill" else float(line.removeprefix(b"stop "))
        if grace is not None:
            if grace > 0:
                os.kill(child.pid, stop_signal)
            deadline = min(deadline, time.monotonic() + grace)
        if time.monotonic() >= deadline:
            os.kill(child.pid, signal.SIGKILL)
            deadline = float("inf")


def _note(_number: int, _frame: object) -> None:
    """Exists so that the wake-up descriptor is written."""


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _adopt_orphans() -> None:
    """Become the parent of every orphan below, so that those which left the process group are found as well.

    Postgres makes each of its processes the leader of a session of its own.
    """
    if sys.platform == "linux":
        _prctl(36, 1)  # PR_SET_CHILD_SUBREAPER


def _spawn(command: Sequence[str], stop_signal: int, identity: str) -> subprocess.Popen[bytes]:
    def die_with_supervisor() -> None:
        if sys.platform == "linux":
            _prctl(1, stop_signal)  # PR_SET_PDEATHSIG; subprocess calls this behind its change of user

    uid, _, gid = identity.partition(":")
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno(),
        process_group=0,
        preexec_fn=die_with_supervisor,  # safe: this process has one thread
        user=int(uid) if gid else None,
        group=int(gid) if gid else None,
        extra_groups=[] if gid else None,
    )


def _answer(line: str) -> None:
    # The parent may be gone already; the pipe's end-of-file says so, and is acted upon.
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), line.encode())
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _reap(child: int) -> int | None:
    """Collect everything that ended; the child's exit status, negative for a signal, if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == child:
            found = os.waitstatus_to_exitcode(status)
        if pid == 0:
            return found


def _end_descendants(group: int) -> None:
    """Kill what the child left: its process group, then every orphan that became ours, generation by generation."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    me = os.getpid()
    while orphans := _words(f"/proc/{me}/task/{me}/children"):
        for orphan in map(int, orphans):
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(orphan, 0)


def _words(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().split()
    except FileNotFoundError:
        return []


if __name__ == "__main__":
    sys.exit(supervise(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
