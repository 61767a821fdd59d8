"""A process that cannot start tells its operator what is wrong and what to do, and never a secret."""

from __future__ import annotations

import json
import socket
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from catalog import keys
from kit.secrets import Keyring
from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import ROOMS, Installation
from tests.system.commands import NOWHERE, SECRET, assert_refused, command, sentences
from tests.system.processes import installed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an executor of its own needs, but for the fault under test."""
    return {
        "TURNOUT_LISTEN_ADDRESS": "127.0.0.1:0",
        "TURNOUT_REGISTRY_ADDRESS": "127.0.0.1:1",
        "TURNOUT_NATS_URL": "nats://127.0.0.1:1",
        "TURNOUT_SERVICE_KEY": keys.new_key().text,
        "TURNOUT_DATA_DIR": str(tmp_path_factory.mktemp("data")),
    }


@pytest.fixture(scope="module")
def nats(open_folder: Path) -> Iterator[Nats]:
    """Its own: installations on one NATS would take each other's events."""
    with Nats(open_folder / f"nats-{uuid.uuid4().hex[:8]}") as server:
        yield server


@pytest.fixture(scope="module")
def running(open_folder: Path, postgres: Postgres, nats: Nats) -> Iterator[Installation]:
    """All services in one process."""
    with installed(open_folder, postgres, nats, "all") as installation:
        yield installation


def test_help_names_the_services_and_shows_examples() -> None:
    done = command("--help")

    assert done.returncode == 0
    for word in (
        "registry",
        "executor",
        "analytics",
        "migrate",
        "--workers",
        "--print-config",
        "TURNOUT_",
        "python -m services migrate",
    ):
        assert word in done.stdout


@pytest.mark.parametrize("arguments", [["nope"], ["executor,nope"], [""], ["all", "--workers", "0"]])
def test_a_command_line_that_means_nothing_exits_2_with_what_there_is(arguments: list[str]) -> None:
    done = command(*arguments)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert ", ".join(ROOMS) in done.stderr or "must be 1 or more" in done.stderr


def test_print_config_shows_every_setting_and_hides_every_secret() -> None:
    secrets = {
        "TURNOUT_SERVICE_KEY": SECRET,
        "TURNOUT_KEY_ENCRYPTION_KEYS": SECRET,
        "TURNOUT_NATS_URL": f"nats://user:{SECRET}@broker:4222",
        "TURNOUT_OTLP_HEADERS": f"authorization={SECRET}",
        "TURNOUT_REGISTRY_DATABASE_URL": NOWHERE,
        "TURNOUT_ANALYTICS_DATABASE_URL": NOWHERE,
        "TURNOUT_REGISTRY_BOOTSTRAP_PLATFORM_KEY": SECRET,
        "TURNOUT_REGISTRY_BOOTSTRAP_SERVICE_KEY": SECRET,
    }

    done = command("all", "--print-config", **secrets, TURNOUT_DRAIN_SECONDS="7.5")

    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    shown = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert {name for name, value in shown.items() if value == "<secret>"} == set(secrets)
    assert shown["TURNOUT_DRAIN_SECONDS"] == "7.5"
    assert {"TURNOUT_DATA_DIR", "TURNOUT_EXECUTOR_PREPARED_VERSIONS", "TURNOUT_SPOOL_MAX_BYTES"} <= set(shown)


def test_every_bad_setting_of_every_room_is_named_without_its_value() -> None:
    bad = {
        "TURNOUT_DRAIN_SECONDS": SECRET,
        "TURNOUT_LISTEN_ADDRESS": "127.0.0.1:99999",
        "TURNOUT_REGISTRY_ADDRESS": SECRET,
        "TURNOUT_SPOOL_MAX_BYTES": SECRET,
        "TURNOUT_EXECUTOR_PREPARED_VERSIONS": "0",
        "TURNOUT_REGISTRY_DATABASE_URL": f"postgresql://turnout:{SECRET}@localhost/turnout",
        "TURNOUT_ANALYTICS_DATABASE_URL": f"postgresql+asyncpg://turnout:x@localhost:{SECRET}/turnout",
        "TURNOUT_ANALYTICS_BATCH_EVENTS": SECRET,
    }

    for arguments in (["all"], ["all", "--workers", "2"]):
        done = command(*arguments, **bad)

        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert [line.split(":")[0].strip() for line in sentences(done)[1:]] == sorted(bad)


def test_a_list_that_is_no_json_is_a_bad_setting_as_any_other() -> None:
    done = command("all", "--print-config", TURNOUT_EXECUTOR_RETRY_STATUSES=SECRET)

    assert_refused(done, "TURNOUT_EXECUTOR_RETRY_STATUSES")


def test_a_mistyped_setting_is_told_and_that_of_another_room_is_not(settings: dict[str, str]) -> None:
    others = {
        "TURNOUT_SPOLL_MAX_BYTES": SECRET,
        "TURNOUT_ANALYTICS_BATCH_EVENTS": "100",
        "TURNOUT_API_KEY": SECRET,
        "TURNOUT_REGISTRY_SERVICE_HOST": "10.0.0.1",
        "TURNOUT_REGISTRY_PORT_7070_TCP_ADDR": "10.0.0.1",
    }

    shown = command("executor", "--print-config", **others)
    started = command("executor", **settings | others | {"TURNOUT_DATA_DIR": "/nowhere/at/all"})

    told = "TURNOUT_SPOLL_MAX_BYTES is not a setting; did you mean TURNOUT_SPOOL_MAX_BYTES?"
    assert shown.stderr.splitlines() == [told]
    warnings = [json.loads(line) for line in started.stderr.splitlines() if '"unknown settings are ignored"' in line]
    assert [warning["settings"] for warning in warnings] == [[told]]
    assert SECRET not in started.stderr + shown.stdout + shown.stderr


def test_a_peer_that_is_nowhere_is_named_with_its_setting(settings: dict[str, str]) -> None:
    settings = {name: value for name, value in settings.items() if name != "TURNOUT_REGISTRY_ADDRESS"}

    assert_refused(command("executor", **settings), "TURNOUT_REGISTRY_ADDRESS")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"TURNOUT_DATA_DIR": ""}, "TURNOUT_DATA_DIR"),
        ({"TURNOUT_DATA_DIR": "/nowhere/at/all"}, "TURNOUT_DATA_DIR"),
        ({"TURNOUT_DATA_DIR": "/dev/null"}, "TURNOUT_DATA_DIR"),
        ({"TURNOUT_DATA_DIR": "/proc"}, "TURNOUT_DATA_DIR"),
        ({"TURNOUT_KEY_ENCRYPTION_KEYS": SECRET}, "TURNOUT_KEY_ENCRYPTION_KEYS"),
        ({"TURNOUT_KEY_ENCRYPTION_KEYS": f"key-1:{SECRET}"}, "TURNOUT_KEY_ENCRYPTION_KEYS"),
        ({"TURNOUT_SERVICE_KEY": SECRET}, "TURNOUT_SERVICE_KEY"),
        ({"TURNOUT_SERVICE_KEY": ""}, "TURNOUT_SERVICE_KEY"),
        ({"TURNOUT_NATS_URL": SECRET}, "TURNOUT_NATS_URL"),
        ({"TURNOUT_OTLP_ENDPOINT": SECRET}, "TURNOUT_OTLP_ENDPOINT"),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_an_executor_that_cannot_start_says_which_setting_to_change(
    settings: dict[str, str], changed: dict[str, str], named: str
) -> None:
    assert_refused(command("executor", **settings | changed), named)


@pytest.mark.parametrize("room", ["registry", "analytics"])
def test_a_database_that_is_down_missing_or_not_migrated_stops_the_start(
    room: str, settings: dict[str, str], postgres: Postgres
) -> None:
    setting = f"TURNOUT_{room.upper()}_DATABASE_URL"
    postgres.create_database("never_migrated")
    keyring = Keyring.generate_setting("key-1")
    urls = ["", NOWHERE, postgres.url(SECRET), postgres.url("never_migrated")]

    def start(url: str) -> subprocess.CompletedProcess[str]:
        return command(room, **settings | {setting: url, "TURNOUT_KEY_ENCRYPTION_KEYS": keyring})

    with ThreadPoolExecutor(2) as pool:
        unset, down, missing, not_migrated = pool.map(start, urls)

    assert_refused(unset, setting)
    assert_refused(down, setting)
    assert_refused(missing, setting)
    assert_refused(not_migrated, f"schema {room!r}", "python -m services migrate")


def test_bootstrap_keys_that_are_none_stop_the_start_of_a_registry(
    settings: dict[str, str], running: Installation
) -> None:
    database = running.processes[0].environment["TURNOUT_REGISTRY_DATABASE_URL"]
    changed = {"TURNOUT_REGISTRY_DATABASE_URL": database, "TURNOUT_REGISTRY_BOOTSTRAP_SERVICE_KEY": SECRET}

    assert_refused(command("registry", **settings | changed), "TURNOUT_REGISTRY_BOOTSTRAP_SERVICE_KEY")


@pytest.mark.parametrize("arguments", [["executor"], ["executor", "--workers", "2"]])
@pytest.mark.parametrize("shared", [False, True], ids=["", "with SO_REUSEPORT"])
def test_a_port_that_is_taken_stops_the_start(settings: dict[str, str], arguments: Sequence[str], shared: bool) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        done = command(*arguments, **settings | {"TURNOUT_LISTEN_ADDRESS": address})

    assert_refused(done, "TURNOUT_LISTEN_ADDRESS", address)


@pytest.mark.parametrize("arguments", [["executor"], ["executor", "--workers", "2"]], ids=["one", "workers"])
def test_a_service_key_that_the_registry_refuses_stops_the_start(
    running: Installation, settings: dict[str, str], arguments: list[str]
) -> None:
    at = {"TURNOUT_REGISTRY_ADDRESS": running.address("registry")}
    unknown = command(*arguments, **settings | at)
    # That of an administrator, who may do everything but what is for services.
    other = command(*arguments, **settings | at | {"TURNOUT_SERVICE_KEY": running.secrets.platform_key})

    for done, reason in ((unknown, "KEY_UNKNOWN"), (other, "SCOPE_MISSING")):
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        [sentence] = set(sentences(done))
        assert "TURNOUT_SERVICE_KEY" in sentence
        assert reason in sentence


def test_workers_that_cannot_start_end_the_parent_with_their_sentence(settings: dict[str, str]) -> None:
    done = command("executor", "--workers", "2", **settings | {"TURNOUT_DATA_DIR": "/nowhere/at/all"})

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert set(sentences(done)) == {sentences(done)[0]}
    assert "TURNOUT_DATA_DIR" in done.stderr


class TestMigrate:
    def test_twice_and_two_at_once_are_harmless(self, postgres: Postgres) -> None:
        postgres.create_database("migrated_at_once")
        url = postgres.url("migrated_at_once")
        urls = {"TURNOUT_REGISTRY_DATABASE_URL": url, "TURNOUT_ANALYTICS_DATABASE_URL": url}

        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda _: command("migrate", **urls), range(2)))
        again = command("migrate", **urls)

        for done in (*both, again):
            assert done.returncode == 0, done.stderr
            assert done.stdout == again.stdout
            assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["registry", "analytics"]

    @pytest.mark.parametrize("url", [NOWHERE, f"sqlite:///{SECRET}", SECRET, ""])
    def test_a_database_that_cannot_be_used_is_named_by_its_setting(self, url: str) -> None:
        assert_refused(command("migrate", TURNOUT_REGISTRY_DATABASE_URL=url), "TURNOUT_REGISTRY_DATABASE_URL")

    def test_a_database_that_does_not_exist_is_told(self, postgres: Postgres) -> None:
        done = command("migrate", TURNOUT_ANALYTICS_DATABASE_URL=postgres.url(SECRET))

        assert_refused(done, "TURNOUT_ANALYTICS_DATABASE_URL", "does the database exist?")

    async def test_a_schema_newer_than_the_code_is_refused(self, postgres: Postgres, settings: dict[str, str]) -> None:
        postgres.create_database("from_the_future")
        url = postgres.url("from_the_future")
        setting = {"TURNOUT_REGISTRY_DATABASE_URL": url}
        assert command("migrate", **setting).returncode == 0
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        await connection.execute("UPDATE registry.alembic_version SET version_num = '9999'")
        await connection.close()

        assert_refused(command("registry", **settings | setting), "9999")
        assert_refused(command("migrate", **setting), "newer")
