"""Everything the executor needs from outside."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

from catalog import view
from completions.version import Version
from kit.secrets import Secret
from services.executor.domain import Delta, ProviderAnswer, ProviderFailure, ProviderRequest, Run, Started, Usage


class Views(Protocol):
    """The catalog."""

    def usable_view(self) -> view.View:
        """The newest view.

        :raises Unavailable: if there is none, or none new enough
        """
        ...


class Versions(Protocol):
    """Reads versions."""

    def unpack(self, packed: bytes) -> Version:
        """A version as the catalog keeps it."""
        ...


class Credentials(Protocol):
    """Opens providers' credentials."""

    def open(self, credential: view.Credential) -> Secret:
        """:raises Precondition: if this process lacks the key that opens it, or it is damaged"""
        ...


class Provider(Protocol):
    """Speaks one kind of provider's contract."""

    def prepare(self, version: Version, kind: view.ProviderKind) -> bytes:
        """What is the same in every request of a version; given back in `ProviderRequest.prepared_body`."""
        ...

    async def complete(self, request: ProviderRequest, timeout_seconds: float) -> ProviderAnswer | ProviderFailure:
        """One attempt. Every failure of the provider, of the network or of time is answered, never raised.

        Cancelling it cancels the provider's work, as far as closing the connection does.
        """
        ...

    def stream(
        self, request: ProviderRequest, *, total_seconds: float, silence_seconds: float
    ) -> AsyncGenerator[Started | Delta | ProviderAnswer | ProviderFailure, None]:
        """One attempt, in pieces: `Started` when the first is there, pieces, and at last the whole answer or a failure,
        which is not raised. Only a failure, if nothing was said. Closing it ends the provider's work.

        :param total_seconds: until the last piece
        :param silence_seconds: until the first piece, and between pieces
        """
        ...


class Recorder(Protocol):
    """Keeps what happened, durably, before it returns. Never waits, so it works while a call is being cancelled."""

    def open(self, run: Run) -> object:
        """The start of a call: if the process dies before the end, it is recorded as lost. The result is for `close`.

        :raises Unavailable: if nothing can be recorded now; the call must then not be run
        """
        ...

    def close(self, opened: object, run: Run) -> None:
        """The end of a call.

        :raises Unavailable: if it cannot be recorded; it will be recorded as lost
        """
        ...


class Prices(Protocol):
    """Knows what providers charge."""

    async def cost_usd_micros(self, provider: view.Provider, model: str, usage: Usage) -> int | None:
        """The price of an answer in millionths of a US dollar, rounded half up; None if unknown, never 0 for that."""
        ...


class Clock(Protocol):
    """Time and chance."""

    def now(self) -> float:
        """Seconds on the clock of deadlines."""
        ...

    def unix_ns(self) -> int:
        """Nanoseconds since 1970."""
        ...

    def uniform(self) -> float:
        """A random number in [0, 1)."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
