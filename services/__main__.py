"""`python -m services <name…|all>`: the composition root.

Heavy imports happen late: a parent of workers must not import grpc, and an image without a room's libraries never
imports that room.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from kit.config import Settings
    from services.process import ProcessConfig

SERVICES: Final = ("registry", "router", "executor", "inference", "analytics", "gateway")
"""Every service, in the order in which one process wires them."""

COMMANDS: Final = ("migrate", "keygen", "replay")
"""What stands in the place of services and serves nothing."""

_NOT_OURS: Final = re.compile(
    # What the command line reads, and what Kubernetes tells of services that are named turnout-….
    r"TURNOUT_(ADDRESS|API_KEY|PROJECT|PROVIDER_CREDENTIAL|(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_\w+)?))"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line and do what it says; the exit status."""
    options = _parser().parse_args(arguments)
    from kit.config import BadConfig

    try:
        names = _names(options.services)
        if options.print_config:
            return _print_config(names)
        if names == ("migrate",):
            return _migrate()
        if names == ("keygen",):
            return _keygen()
        if names == ("replay",):
            return _replay(options.hours)
        if options.workers > 1 and "TURNOUT_WORKER_PIPE" not in os.environ:
            return _run_workers(options)
        return _run(names, options.ready_file, options.workers)
    except BadConfig as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        # During the start only: a process that serves drains instead.
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m services",
        description="Run Turnout's services: all of them in one process, or any set.",
        epilog="Settings are environment variables named TURNOUT_…; --print-config shows all of them.\n\n"
        "examples:\n"
        "  python -m services keygen                print new keys as settings; once for an installation\n"
        "  python -m services migrate               make or renew the tables; once before each new version\n"
        "  python -m services replay --hours 1      publish again what a lost NATS had taken; doubles nothing\n"
        "  python -m services all                   everything in one process\n"
        "  python -m services executor --workers 4  one service, in four processes on one port",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "services", help=f"all, {', '.join(COMMANDS)}, or names separated by commas: {', '.join(SERVICES)}"
    )
    parser.add_argument("--workers", type=_count, default=1, help="how many processes share the port (default 1)")
    parser.add_argument(
        "--print-config", action="store_true", help="show the settings in force, secrets hidden, and exit"
    )
    parser.add_argument("--hours", type=float, default=1.0, help="for replay: how far back (default 1)")
    parser.add_argument("--ready-file", type=Path, help="write pid and port here, as JSON, once the process serves")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    from kit.config import BadConfig

    if text == "all":
        return SERVICES
    if text in COMMANDS:
        return (text,)
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in SERVICES]:
        raise BadConfig(f"no such service: {', '.join(unknown)}; there are all, {', '.join((*COMMANDS, *SERVICES))}")
    return tuple(name for name in SERVICES if name in names)


def _settings(names: Sequence[str]) -> list[type[Settings]]:
    from catalog.config import CatalogConfig
    from kit.credentials_config import CredentialsConfig
    from kit.egress_config import EgressConfig
    from kit.events.config import EventsConfig
    from services.process import ProcessConfig

    rooms = [import_module(f"services.{name}.config").SETTINGS for name in names]
    return [ProcessConfig, CatalogConfig, EventsConfig, CredentialsConfig, EgressConfig, *rooms]


def _load(names: Sequence[str]) -> list[Settings]:
    """Everything that these services read.

    :raises BadConfig: naming every variable of all of them that is bad
    """
    from kit import config

    loaded: list[Settings] = []
    problems: set[str] = set()
    for settings in _settings(names):
        problems.update(_bad_database_url(settings))
        try:
            loaded.append(config.load(settings))
        except config.BadConfig as error:
            problems.update(str(error).splitlines()[1:])
    if problems:
        raise config.BadConfig("\n".join(["bad settings:", *sorted(problems)]))
    return loaded


def _bad_database_url(settings: type[Settings]) -> list[str]:
    # Here, because a driver's own sentence about an address quotes it, password and all.
    if "database_url" not in settings.model_fields or not (url := os.environ.get(_database_setting(settings))):
        return []
    try:
        parts = urlsplit(url)
        is_sound = parts.scheme == "postgresql+asyncpg" and parts.port != 0
    except ValueError:
        is_sound = False
    return (
        [] if is_sound else [f"  {_database_setting(settings)}: must be postgresql+asyncpg://user@host:port/database"]
    )


def _database_url(room: Settings) -> str:
    url = getattr(room, "database_url", None)
    return url.get_secret_value() if url is not None else ""


def _database_setting(settings: type[Settings]) -> str:
    return f"{settings.model_config['env_prefix']}DATABASE_URL"


def _unknown_settings() -> list[str]:
    """A sentence for each variable that looks like a setting and is none, for all services: one process of several is
    often given the settings of all."""
    import difflib

    from kit import config, workers

    settings = _settings(SERVICES)
    known = [name for each in settings for name in config.variables(each)]
    sentences = []
    for name in config.unknown_variables(settings):
        if name == workers.WORKER_ENV or _NOT_OURS.fullmatch(name):
            continue
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        sentences.append(f"{name} is not a setting" + "".join(f"; did you mean {each}?" for each in near))
    return sentences


def _print_config(names: Sequence[str]) -> int:
    from kit import config

    loaded = _load(SERVICES if names[0] in COMMANDS else names)
    for name, value in config.describe(loaded).items():
        print(f"{name}={value}")
    for sentence in _unknown_settings():
        print(sentence, file=sys.stderr)
    return 0


def _keygen() -> int:
    from catalog.keys import new_key
    from kit.secrets import Keyring

    service_key = new_key().text
    print(f"TURNOUT_REGISTRY_BOOTSTRAP_PLATFORM_KEY={new_key().text}")
    print(f"TURNOUT_REGISTRY_BOOTSTRAP_SERVICE_KEY={service_key}")
    print(f"TURNOUT_SERVICE_KEY={service_key}")
    print(f"TURNOUT_KEY_ENCRYPTION_KEYS={Keyring.generate_setting('key-1')}")
    return 0


def _replay(hours: float) -> int:
    import asyncio
    from datetime import UTC, datetime, timedelta

    from kit import config
    from kit.errors import AppError
    from kit.events.config import EventsConfig
    from kit.events.republish import republish
    from kit.events.stream import StreamOptions

    settings = config.load(EventsConfig)
    if settings.data_dir is None:
        raise config.BadConfig("bad settings:\n  TURNOUT_DATA_DIR: is not set")

    def progress(count: int) -> None:
        print(f"\r{count} events", end="", file=sys.stderr)

    try:
        count = asyncio.run(
            republish(
                settings.data_dir / "spool",
                settings.nats_url.get_secret_value(),
                StreamOptions(max_bytes=settings.events_stream_max_bytes),
                datetime.now(UTC) - timedelta(hours=hours),
                progress=progress,
            )
        )
    except (AppError, TimeoutError, OSError) as error:
        cause = error if isinstance(error, AppError) else "is TURNOUT_NATS_URL right, and TURNOUT_DATA_DIR the volume?"
        print(f"\nthe replay ended early: {cause}", file=sys.stderr)
        return 1
    print(f"\r{count} events published again")
    return 0


def _migrate() -> int:
    for sentence in _unknown_settings():
        print(sentence, file=sys.stderr)
    rooms = {type(room).__module__.split(".")[1]: room for room in _load(SERVICES) if _database_url(room)}
    if not rooms:
        print(
            "nothing to migrate: set TURNOUT_REGISTRY_DATABASE_URL, TURNOUT_ANALYTICS_DATABASE_URL or "
            "TURNOUT_EXECUTOR_DATABASE_URL",
            file=sys.stderr,
        )
        return 2
    return max(_migrate_room(name, room) for name, room in rooms.items())


def _migrate_room(name: str, room: Settings) -> int:
    import asyncio

    import asyncpg
    from alembic.util.exc import CommandError
    from sqlalchemy.exc import DBAPIError

    from kit.errors import AppError, Precondition
    from kit.migrations import migrate

    folder = Path(__file__).parent / name / "migrations"
    try:
        version = asyncio.run(migrate(_database_url(room), schema=name, folder=folder))
    except CommandError:
        print(
            f"{_database_setting(type(room))}: the schema {name!r} is at a version that this code does not know: "
            "a newer Turnout has migrated it; run that one",
            file=sys.stderr,
        )
        return 2
    except Precondition as error:
        # Our own sentence, which says what the database lacks.
        print(f"{_database_setting(type(room))}: {error.message}", file=sys.stderr)
        return 2
    except (AppError, DBAPIError, asyncpg.PostgresError) as error:
        # The type only: a driver's sentence may quote the address, and with it the password.
        cause = error.reason if isinstance(error, AppError) else type(error).__name__
        print(
            f"{_database_setting(type(room))}: the database of {name} cannot be migrated ({cause}); "
            "is the address right, does the server run, and does the database exist?",
            file=sys.stderr,
        )
        return 2
    print(f"{name}: at {version}")
    return 0


def _run_workers(options: argparse.Namespace) -> int:
    from kit import config, workers
    from services.process import ProcessConfig

    names = _names(options.services)
    _load(names)
    wanted = {"TURNOUT_LISTEN_ADDRESS": config.load(ProcessConfig).listen_address}
    if "gateway" in names:
        from services.gateway.config import GatewayConfig

        wanted["TURNOUT_GATEWAY_LISTEN_ADDRESS"] = config.load(GatewayConfig).listen_address
    holders, addresses = ExitStack(), {}
    for setting, address in wanted.items():
        try:
            holder, addresses[setting] = workers.reserve_port(address)
        except OSError as error:
            raise config.BadConfig(f"{setting}: cannot listen on {address}: {error.strerror}") from None
        holders.enter_context(holder)
    command = [sys.executable, "-m", "services", options.services, "--workers", str(options.workers)]
    if options.ready_file is not None:
        command += ["--ready-file", str(options.ready_file)]
    with holders:
        return workers.run(command, options.workers, environment={**os.environ, **addresses})


def _run(names: Sequence[str], ready_file: Path | None, workers: int) -> int:
    import uvloop

    from kit import config, ids, telemetry
    from services.process import ProcessConfig

    _load(names)
    process = config.load(ProcessConfig)
    _check_service_key()
    instance = ids.new_uid("ins")
    telemetry.configure_logging(level=process.log_level, instance=instance)
    if unknown := _unknown_settings():
        logging.getLogger("services").warning("unknown settings are ignored", extra={"settings": unknown})
    return uvloop.run(_serve(process, instance, tuple(names), ready_file, worker_count=workers))


def _check_service_key() -> None:
    """Without a key that can be one, a process would wait for its catalog for ever.

    :raises BadConfig: naming the setting
    """
    from catalog import keys
    from catalog.config import CatalogConfig
    from kit import config
    from kit.errors import Unauthenticated

    text = config.load(CatalogConfig).service_key.get_secret_value()
    if not text:
        raise config.BadConfig(
            "TURNOUT_SERVICE_KEY is not set: give the key with catalog:watch that the registry knows, "
            "such as its TURNOUT_REGISTRY_BOOTSTRAP_SERVICE_KEY"
        )
    try:
        keys.parse(text)
    except Unauthenticated as error:
        raise config.BadConfig(f"TURNOUT_SERVICE_KEY: {error}") from None


async def _serve(
    process: ProcessConfig, instance: str, names: tuple[str, ...], ready_file: Path | None, *, worker_count: int
) -> int:
    from catalog import watch
    from catalog.keys import RATED_SCOPES, CatalogAuthenticator
    from kit import workers
    from kit.errors import AppError, CannotStart
    from kit.interceptors import Auth, Chain, Rates, Validation
    from kit.runtime import ProcessOptions, Runtime
    from kit.server import Server, ServerOptions
    from kit.telemetry import Tracing, otlp_exporter
    from services.metrics import Metering

    exporter = otlp_exporter(process.otlp_endpoint, process.otlp_headers.get_secret_value())
    resource = {"service.name": f"turnout-{'-'.join(names)}", "service.instance.id": instance}
    tracing = Tracing(sample_ratio=process.trace_sample_ratio, resource=resource, exporter=exporter)
    metering = Metering(process.metrics_address, workers=worker_count, instance=instance, services=names)
    auth, rates = Auth(), Rates(RATED_SCOPES, 1 / (process.replicas * worker_count))
    pipe = os.environ.get(workers.WORKER_ENV)
    server = Server(
        Chain(tracing, (*metering.interceptors, auth, rates, Validation())),
        ServerOptions(
            address=process.listen_address,
            max_concurrent_calls=process.max_concurrent_calls,
            connection_age_seconds=process.connection_age_seconds,
            drain_seconds=process.drain_seconds,
            shares_port=pipe is not None,
        ),
    )
    options = ProcessOptions(
        instance=instance,
        services=names,
        peers=process.peers(),
        ready_file=ready_file,
        parent_pipe=int(pipe) if pipe else None,
    )
    try:
        async with Runtime(options, server, tracing) as runtime:
            await runtime.enter(metering.module)
            catalog = await runtime.shared(watch.catalog)
            await metering.follow(runtime, catalog)
            auth.use(CatalogAuthenticator(catalog))
            for name in names:
                room = import_module(f"services.{name}.module")
                await runtime.enter(room.module)
                # The registry knows keys before there is a catalog to look them up in.
                if hasattr(room, "authenticator"):
                    auth.use(await runtime.shared(room.authenticator))
            return await runtime.serve()
    except (CannotStart, AppError) as error:
        print(error, file=sys.stderr)
        return 2
    finally:
        tracing.shutdown()


if __name__ == "__main__":
    sys.exit(main())
