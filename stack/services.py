"""Turnout's own services as processes: all in one, or one process each, on the embedded Postgres and NATS.

The environment given here is complete and explicit: it is what an operator would write for the same machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, Self

from catalog import keys
from kit.errors import Precondition, Unauthenticated, Unavailable
from kit.secrets import Keyring
from stack import private_file
from stack.nats import Nats
from stack.postgres import Postgres
from stack.server import Launch, Server

DATABASE = "turnout"
SECRETS_FILE = "secrets.json"
ROOMS = ("registry", "router", "executor", "inference", "analytics", "gateway")

Mode = Literal["all", "split"]


@dataclass(frozen=True, slots=True)
class Secrets:
    """What an installation cannot be rebuilt without; kept in a file that its owner alone can read."""

    platform_key: str
    service_key: str
    key_encryption_keys: str

    @classmethod
    def kept_in(cls, path: Path) -> Secrets:
        """Those of an earlier start, else new ones.

        :raises Precondition: `SECRETS_UNREADABLE` if the file is damaged: new ones in its place would be a decision
        """
        if path.exists():
            return cls._read(path)
        made = cls(keys.new_key().text, keys.new_key().text, Keyring.generate_setting("key-1"))
        private_file.write(path, json.dumps(asdict(made)))
        return made

    @classmethod
    def _read(cls, path: Path) -> Secrets:
        try:
            kept = cls(**json.loads(path.read_bytes()))
            keys.parse(kept.platform_key)
            keys.parse(kept.service_key)
            Keyring.parse(kept.key_encryption_keys)
        except (ValueError, TypeError, AttributeError, Unauthenticated):
            raise Precondition(
                f"{path} does not hold the secrets of an installation any more: put a copy of it back, or delete it; "
                "new secrets are made then, and the credentials of providers must be set anew",
                reason="SECRETS_UNREADABLE",
            ) from None
        return kept


class ServiceProcess(Server):
    """One process with some of the services."""

    ready_seconds = 60.0

    def __init__(self, folder: Path, names: Sequence[str], environment: Mapping[str, str], *, workers: int = 1) -> None:
        super().__init__(folder)
        # One class, as many names as sets of services.
        self.name = "turnout" if set(names) == set(ROOMS) else "-".join(names)  # type: ignore[misc]
        self._names = tuple(names)
        self.environment = dict(environment)
        self._workers = workers

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def http_address(self) -> str:
        """`host:port` of the gateway, if it lives here; another after each start."""
        return f"127.0.0.1:{json.loads(self._ready_file.read_text())['ports']['http']}"

    @property
    def _ready_file(self) -> Path:
        return self.folder / "ready.json"

    def _launch(self) -> Launch:
        self._ready_file.unlink(missing_ok=True)
        for setting in ("TURNOUT_DATA_DIR", "TURNOUT_INFERENCE_ARTIFACTS_DIR"):
            Path(self.environment[setting]).mkdir(parents=True, exist_ok=True, mode=0o700)
        command = [sys.executable, "-m", "services", ",".join(self._names), "--ready-file", str(self._ready_file)]
        if self._workers > 1:
            command += ["--workers", str(self._workers)]
        return Launch(command, self.environment | {"TURNOUT_LISTEN_ADDRESS": self.address}, self.folder)

    def _answers(self) -> bool:
        return self._ready_file.exists()


class Installation:
    """Services that find each other, on one Postgres and one NATS.

    The secrets belong to the folder, since they belong to what lies in the database: whoever starts it in another mode
    needs the same. Spools and logs belong to a mode's processes.

    :param extra: settings that differ from the defaults, for all processes
    :param settings: the same, but for those that are this installation's own matter: addresses, folders, secrets
    """

    def __init__(
        self,
        folder: Path,
        *,
        mode: Mode,
        postgres: Postgres,
        nats: Nats,
        database: str = DATABASE,
        workers: int = 1,
        extra: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.mode = mode
        self.postgres = postgres
        self.nats = nats
        self._database = database
        self._settings = dict(settings or {})
        self.secrets = Secrets.kept_in(self.folder / SECRETS_FILE)
        groups: list[tuple[str, ...]] = [ROOMS] if mode == "all" else [(name,) for name in ROOMS]
        self.processes = [
            ServiceProcess(self.folder / mode / "-".join(group), group, {}, workers=workers) for group in groups
        ]
        # Nobody calls the gateway but by HTTP.
        peers = [name for name in ROOMS if name != "gateway"]
        addresses = {name: self._process(name).address for name in peers} if mode == "split" else {}
        for process in self.processes:
            process.environment = self._environment(process, addresses) | dict(extra or {})

    def _has(self, room: str) -> bool:
        return any(room in process._names for process in self.processes)

    def _process(self, room: str) -> ServiceProcess:
        return next(process for process in self.processes if room in process._names)

    def process(self, room: str) -> ServiceProcess:
        """The process that a service lives in."""
        return self._process(room)

    def address(self, room: str) -> str:
        """Where to call a service."""
        return self._process(room).address

    @property
    def http_address(self) -> str:
        """`host:port` for HTTP."""
        return self._process("gateway").http_address

    def _environment(self, process: ServiceProcess, addresses: Mapping[str, str]) -> dict[str, str]:
        url = self.postgres.url(self._database)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")}
        return (
            inherited
            | self._settings
            | {
                "TURNOUT_DATA_DIR": str(process.folder / "data"),
                "TURNOUT_NATS_URL": self.nats.url,
                "TURNOUT_SERVICE_KEY": self.secrets.service_key,
                "TURNOUT_KEY_ENCRYPTION_KEYS": self.secrets.key_encryption_keys,
                "TURNOUT_EGRESS_ALLOW_PRIVATE": "true",
                "TURNOUT_REGISTRY_DATABASE_URL": url,
                "TURNOUT_REGISTRY_BOOTSTRAP_PLATFORM_KEY": self.secrets.platform_key,
                "TURNOUT_REGISTRY_BOOTSTRAP_SERVICE_KEY": self.secrets.service_key,
                "TURNOUT_ANALYTICS_DATABASE_URL": url,
                "TURNOUT_EXECUTOR_DATABASE_URL": url,
                "TURNOUT_INFERENCE_ARTIFACTS_DIR": str(self.folder / "artifacts"),
                # Of code snippets. The gateway's port is chosen as it starts, and told by whoever asks for them.
                "TURNOUT_REGISTRY_GRPC_ADDRESS": self._process(
                    "executor" if self._has("executor") else "registry"
                ).address,
                "TURNOUT_GATEWAY_LISTEN_ADDRESS": "127.0.0.1:0",
                **{f"TURNOUT_{name.upper()}_ADDRESS": address for name, address in addresses.items()},
            }
        )

    def migrate(self) -> None:
        """Make the database and bring it to the newest schema.

        :raises Unavailable: `MIGRATION_FAILED` with what the command said
        """
        self.postgres.create_database(self._database)
        done = subprocess.run(
            [sys.executable, "-m", "services", "migrate"],
            env=self.processes[0].environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise Unavailable(f"the migration failed: {done.stderr or done.stdout}", reason="MIGRATION_FAILED")

    def start(self) -> None:
        """Migrate, then start every process, side by side, and wait until each is ready."""
        self.migrate()
        pool = ThreadPoolExecutor(len(self.processes))
        try:
            for started in [pool.submit(process.start) for process in self.processes]:
                started.result()
        except BaseException:  # a Ctrl-C as well
            # Twice: what was being launched during the first is found by the second.
            self.stop()
            pool.shutdown()
            self.stop()
            raise
        pool.shutdown()

    def stop(self) -> None:
        """Stop every process, those that call before those that are called."""
        for process in reversed(self.processes):
            process.stop(timeout_seconds=30)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
