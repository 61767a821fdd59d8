"""Where Turnout is and who calls: options, else environment, else the file that `turnout up` leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import typer

from cli import output
from kit import status
from kit.errors import AppError, Precondition

CLIENT_FILES: Final = Path(".turnout") / "clients"
"""Where each `turnout up` that runs leaves a file named by its process id."""
TIMEOUT_SECONDS: Final = 30.0


@dataclass(slots=True)
class Client:
    """How this invocation reaches the services."""

    addresses: dict[str, str]
    """By service; the empty name is the address of those that have none of their own."""
    api_key: str
    project: str
    as_json: bool = False
    _channels: dict[str, grpc.Channel] = field(default_factory=dict)

    @property
    def parent(self) -> str:
        """The resource name of the project in use."""
        if not self.project:
            raise Precondition("no project: give --project, or set TURNOUT_PROJECT", reason="NO_PROJECT")
        return f"projects/{self.project}"

    def channel(self, service: str) -> grpc.Channel:
        """A channel that carries the key."""
        address = self.addresses.get(service) or self.addresses.get("") or ""
        if not address:
            raise Precondition(
                "no address: start Turnout here with `turnout up`, or give --address, or set TURNOUT_ADDRESS",
                reason="NO_ADDRESS",
            )
        if address not in self._channels:
            channel = grpc.insecure_channel(address, options=(("grpc.max_receive_message_length", 64 << 20),))
            self._channels[address] = grpc.intercept_channel(channel, _WithKey(self.api_key))
        return self._channels[address]


def from_surroundings(*, address: str, api_key: str, project: str, as_json: bool) -> Client:
    """The client that options, environment and files amount to, in this order of strength."""
    kept = _kept()
    addresses = dict(kept.get("addresses", {}))
    if address or os.environ.get("TURNOUT_ADDRESS"):
        addresses = {"": address or os.environ["TURNOUT_ADDRESS"]}
    for service in ("registry", "executor", "analytics"):
        if not address and (own := os.environ.get(f"TURNOUT_{service.upper()}_ADDRESS")):
            addresses[service] = own
    return Client(
        addresses,
        api_key or os.environ.get("TURNOUT_API_KEY", "") or kept.get("api_key", ""),
        project or os.environ.get("TURNOUT_PROJECT", "") or kept.get("project", ""),
        as_json,
    )


@contextmanager
def kept(*, addresses: dict[str, str], api_key: str, project: str) -> Iterator[None]:
    """Leave a file for invocations in this folder and below; it holds a key, so only its owner can read it.

    Several may be left at a time; the newest whose process lives counts.
    """
    folder = CLIENT_FILES.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.json"):
        if not _lives(stale):
            stale.unlink(missing_ok=True)
    path = folder / f"{os.getpid()}.json"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"addresses": addresses, "api_key": api_key, "project": project}, file)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def failures_for_people() -> Iterator[None]:
    """A status as a sentence with what to do, and exit status 1; never a traceback."""
    try:
        yield
    except AppError as error:
        output.failure(error, status.CODES[error.kind])
        raise typer.Exit(1) from None
    except grpc.RpcError as failure:
        if not hasattr(failure, "code"):
            raise
        output.failure(status.from_rpc_error(failure, peer="turnout"), failure.code())
        raise typer.Exit(1) from None


def _kept() -> dict[str, Any]:
    for folder in (Path.cwd(), *Path.cwd().parents):
        found = {path: path.stat().st_mtime_ns for path in (folder / CLIENT_FILES).glob("*.json") if _lives(path)}
        for path in sorted(found, key=lambda path: found[path], reverse=True):
            try:
                kept: dict[str, Any] = json.loads(path.read_text())
            except (OSError, ValueError):
                continue
            return kept
    return {}


def _lives(path: Path) -> bool:
    """Whether the process that left a file still runs."""
    try:
        os.kill(int(path.stem), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


class _WithKey(grpc.UnaryUnaryClientInterceptor):
    """Adds the key and a deadline to every call."""

    def __init__(self, api_key: str) -> None:
        self._metadata = (("authorization", f"Bearer {api_key}"), ("turnout-client", "cli")) if api_key else ()

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        metadata = (*(details.metadata or ()), *self._metadata)
        timeout = TIMEOUT_SECONDS if details.timeout is None else details.timeout
        return continuation(details._replace(metadata=metadata, timeout=timeout), request)
