"""Where Turnout is and who calls: options, else environment, else the file that `turnout up` leaves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import typer
from google.rpc import error_details_pb2, status_pb2

from catalog import keys
from cli import output
from kit import status
from kit.errors import AppError, Invalid, Precondition, Unauthenticated
from stack import private_file

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
    http_url: str = ""
    """Where the gateway listens; empty if nobody said."""
    notice: str = ""
    """What a person should know before the first call; said once."""
    chosen_project: str = ""
    """The project, if `--project` or TURNOUT_PROJECT says it; calls go to that of the key otherwise."""
    _channels: dict[str, grpc.Channel] = field(default_factory=dict)

    @property
    def parent(self) -> str:
        """The resource name of the project in use."""
        if not self.project:
            raise Precondition("no project: give --project, or set TURNOUT_PROJECT", reason="NO_PROJECT")
        return f"projects/{self.project}"

    def address(self, service: str) -> str:
        """`host:port` of a service; empty if nobody said."""
        return self.addresses.get(service) or self.addresses.get("") or ""

    def channel(self, service: str) -> grpc.Channel:
        """A channel that carries the key.

        :raises Precondition: `NO_ADDRESS`
        :raises Invalid: `ADDRESS_MALFORMED`
        :raises Unauthenticated: `KEY_MALFORMED`, before anybody is called: not every text can be sent as a key
        """
        address = self.address(service)
        if not address:
            raise Precondition(
                "no address: start Turnout here with `turnout up`, or give --address, or set TURNOUT_ADDRESS",
                reason="NO_ADDRESS",
            )
        if address.startswith(("http://", "https://")):
            raise Invalid(
                f"an address is host:port, such as 127.0.0.1:7070, not {address!r}: it is spoken to in gRPC, not HTTP",
                reason="ADDRESS_MALFORMED",
            )
        if self.api_key:
            self._check_key()
        if self.notice and not self.as_json:
            output.errors.print(self.notice, style="dim", markup=False, highlight=False, soft_wrap=True)
            self.notice = ""
        if address not in self._channels:
            channel = grpc.insecure_channel(address, options=(("grpc.max_receive_message_length", 64 << 20),))
            self._channels[address] = grpc.intercept_channel(channel, _WithKey(self.api_key))
        return self._channels[address]

    def _check_key(self) -> None:
        try:
            keys.parse(self.api_key)
        except Unauthenticated as error:
            raise Unauthenticated(
                "this is not a Turnout key: check that --api-key, or TURNOUT_API_KEY, was copied whole",
                reason=error.reason,
            ) from None


def from_surroundings(*, address: str, api_key: str, project: str, as_json: bool) -> Client:
    """The client that options, environment and files amount to, in this order of strength."""
    running = _running()
    newest = running[0] if running else {}
    addresses, notice, http_url = dict(newest.get("addresses", {})), _choice(running), newest.get("http_url", "")
    if address or os.environ.get("TURNOUT_ADDRESS"):
        addresses, notice, http_url = {"": address or os.environ["TURNOUT_ADDRESS"]}, "", ""
    for service in ("registry", "router", "executor", "inference", "analytics"):
        if not address and (own := os.environ.get(f"TURNOUT_{service.upper()}_ADDRESS")):
            addresses[service] = own
    chosen = project or os.environ.get("TURNOUT_PROJECT", "")
    return Client(
        addresses,
        api_key or os.environ.get("TURNOUT_API_KEY", "") or newest.get("api_key", ""),
        chosen or newest.get("project", ""),
        as_json,
        http_url,
        notice,
        chosen,
    )


@contextmanager
def kept(
    *, addresses: dict[str, str], api_key: str, project: str, http_url: str = "", data: Path | None = None
) -> Iterator[None]:
    """Leave a file for invocations in this folder and below; it holds a key, so only its owner can read it.

    Several may be left at a time; the newest whose process lives counts.
    """
    folder = CLIENT_FILES.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.json"):
        if not _lives(stale):
            stale.unlink(missing_ok=True)
    path = folder / f"{os.getpid()}.json"
    told = {
        "addresses": addresses,
        "http_url": http_url,
        "api_key": api_key,
        "project": project,
        "data": str(data or ""),
    }
    private_file.write(path, json.dumps(told))
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
        output.failure(error, status.CODES[error.kind], [each.message for each in error.attempts])
        raise typer.Exit(1) from None
    except grpc.RpcError as failure:
        if not hasattr(failure, "code"):
            raise
        told = status.from_rpc_error(failure, peer="turnout")
        output.failure(told, failure.code(), _attempts(failure, told))
        raise typer.Exit(1) from None


def _attempts(failure: status.Failure, error: AppError) -> Sequence[str]:
    """What was tried inside a failed call, as `kit.status` packs it: a line each."""
    lines: list[str] = []
    for key, value in failure.trailing_metadata() or ():
        if key == status.DETAILS_KEY and isinstance(value, bytes):
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Is(error_details_pb2.DebugInfo.DESCRIPTOR):
                    lines += error_details_pb2.DebugInfo.FromString(detail.value).stack_entries
    # Their number, which goes without saying.
    error.metadata.pop("attempts_", None)
    if omitted := error.metadata.get("omitted_attempts"):
        lines.append(f"… and {omitted} more")
    return lines


def _running() -> list[dict[str, Any]]:
    """What every `turnout up` that runs has left, the newest first, in the nearest folder in which there is one."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        found = {path: path.stat().st_mtime_ns for path in (folder / CLIENT_FILES).glob("*.json") if _lives(path)}
        running = []
        for path in sorted(found, key=lambda path: found[path], reverse=True):
            try:
                kept = json.loads(path.read_bytes())
            except (OSError, ValueError):
                continue
            if isinstance(kept, dict):
                running.append(kept)
        if running:
            return running
    return []


def _choice(running: Sequence[dict[str, Any]]) -> str:
    """Which of several is used; empty if there is no choice."""
    if len(running) < 2:
        return ""
    used, *others = [_place(each) for each in running]
    verb = "another runs" if len(others) == 1 else "others run"
    return f"using {used}; {verb} at {', '.join(others)}: --address and --api-key choose"


def _place(kept: dict[str, Any]) -> str:
    data = str(kept.get("data", ""))
    where = f" (data {os.path.relpath(data)})" if data else ""
    return " ".join(dict.fromkeys(kept.get("addresses", {}).values())) + where


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
