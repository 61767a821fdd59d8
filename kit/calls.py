"""The call being served: who calls, until when, and in which trace. One per rpc, over TCP and in the process alike."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

import grpc
from google.protobuf.message import Message

from kit.telemetry import TraceContext
from kit.values import Entity, Value, field


class Principal(Value):
    """Who calls. `tenant` is empty for keys that belong to the installation."""

    key_id: str
    tenant: str
    scopes: frozenset[str]
    requests_per_minute: int = 0
    """0 is no bound."""


@dataclass(frozen=True, slots=True)
class Method:
    """An rpc as its contract declares it."""

    full_name: str
    """`/turnout.registry.v1.ProjectService/GetProject`."""
    scope: str
    """What the caller's key must hold."""


class Call(Entity):
    """One rpc while it is served; the interceptors fill it in."""

    method: Method
    metadata: Mapping[str, str | bytes]
    """What the caller sent, keys in lower case; of a repeated key the last."""
    peer: str
    deadline: float
    """On the loop's clock, which is `time.monotonic()`: nobody waits for the answer after it."""
    trace: TraceContext
    principal: Principal | None = None
    trailing_metadata: list[tuple[str, str | bytes]] = field(default_factory=list)
    """What the answer carries besides its message; a servicer may add."""

    def remaining_seconds(self) -> float:
        """Until the deadline; negative once it has passed."""
        return self.deadline - time.monotonic()

    def text(self, key: str) -> str:
        """A metadata value as text; empty if absent or binary."""
        value = self.metadata.get(key, "")
        return value if isinstance(value, str) else ""


class Interceptor(Protocol):
    """What surrounds every rpc. Entered in order; left in reverse order, only if it was entered."""

    async def enter(self, call: Call, request: Message | None) -> None:
        """Before the rpc's own code. `request` is None for client streams. May raise an AppError."""
        ...

    def leave(self, call: Call, error: BaseException | None, code: grpc.StatusCode) -> None:
        """After it. `code` is what the caller will see. Must not raise."""
        ...


_current: ContextVar[Call] = ContextVar("call")


def current() -> Call:
    """The call that this task serves.

    :raises LookupError: outside one; background work has no caller
    """
    return _current.get()


def current_or_none() -> Call | None:
    """The call that this task serves, if any."""
    return _current.get(None)


def enter(call: Call) -> None:
    """Make `call` the current one of this task. Each rpc runs in a context of its own, so there is nothing to undo."""
    _current.set(call)


def principal() -> Principal:
    """Who calls. Servicers use it; the auth interceptor has run by then."""
    found = _current.get().principal
    if found is None:
        raise LookupError("this rpc was served without authentication")
    return found
