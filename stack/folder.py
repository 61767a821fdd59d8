"""Where a stack keeps its data, `.turnout/<n>`, and which ports its servers get."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import random
import socket
import threading
from pathlib import Path
from types import TracebackType

from kit.errors import Exhausted
from stack.supervisor import OwnedDescriptor

DEFAULT_ROOT = Path(".turnout")

_LOWEST_PORT = 10240
_PORT_TRIES = 200


class StackFolder:
    """One folder of the row `0`, `1`, `2` …, ours until released or until this process ends, however it ends.

    The claim is a lock that the kernel drops with its owner. A folder is never deleted: the next owner finds the data
    of the last one.
    """

    def __init__(self, path: Path, claim: OwnedDescriptor) -> None:
        self.path = path
        self._claim = claim

    @classmethod
    def allocate(cls, root: Path = DEFAULT_ROOT) -> StackFolder:
        """Claim the first folder under `root` that nobody alive holds, making it if need be."""
        root = root.absolute()
        for number in itertools.count():
            path = root / str(number)
            path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())  # for people: the lock is what counts
            return cls(path, OwnedDescriptor(descriptor))
        raise AssertionError("itertools.count() does not end")

    def release(self) -> None:
        """Let others have it. Idempotent."""
        self._claim.close()

    def __enter__(self) -> StackFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def remembered_port(folder: Path) -> int:
    """The port noted in `folder` if it is free, else a new one, which is noted: addresses survive from run to run."""
    note = folder / "port"
    try:
        port = int(note.read_text())
    except (FileNotFoundError, ValueError):
        port = 0
    if not (_LOWEST_PORT <= port <= 65535 and is_free_port(port) and _claims.take(port, again=True)):
        port = free_port()
        note.write_text(f"{port}\n")
    return port


class _PortClaims:
    """Ports that this process has chosen, for as long as it lives.

    A server listens some time after its port was chosen, and another process that chose until then took the same one
    now and then. The UDP port of the same number stands for the claim: it is shared by just those who share the TCP
    ports, whatever their user and temporary folder, and the kernel drops it with its owner.
    """

    def __init__(self) -> None:
        self._taken: set[int] = set()
        # Servers are started in threads.
        self._lock = threading.Lock()

    def take(self, port: int, *, again: bool) -> bool:
        """Whether it is ours now.

        :param again: whether it may have been before
        """
        with self._lock:
            if port in self._taken:
                return again
            try:
                with socket.socket(type=socket.SOCK_DGRAM) as claim:
                    claim.bind(("127.0.0.1", port))
                    # It stays open: the kernel closes it.
                    claim.detach()
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
                # Nowhere to say so: then two may choose the same, once in a while.
            self._taken.add(port)
            return True


_claims = _PortClaims()


def free_port() -> int:
    """A free loopback TCP port below the range from which the kernel serves outgoing connections.

    Nobody else is given the same while this process lives.

    A port out of that range could, while its server is down, become the local end of anybody's connection, and the
    server would not get it back.

    :raises Exhausted: `NO_FREE_PORT`
    """
    highest = _first_ephemeral_port() - 1
    if highest <= _LOWEST_PORT:
        highest = 65535
    for _ in range(_PORT_TRIES):
        port = random.randint(_LOWEST_PORT, highest)  # noqa: S311  (to avoid collisions, not attackers)
        if is_free_port(port) and _claims.take(port, again=False):
            return port
    raise Exhausted(
        f"found no free loopback port between {_LOWEST_PORT} and {highest} in {_PORT_TRIES} tries",
        reason="NO_FREE_PORT",
    )


def _first_ephemeral_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32768


def is_free_port(port: int) -> bool:
    """Whether a server could listen on this loopback TCP port now."""
    with socket.socket() as probe:
        # As the servers do: connections of an earlier server that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True
