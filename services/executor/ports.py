"""Everything the executor needs from outside."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from catalog import view
from completions.chat import Message
from completions.version import Parameters, Version
from kit.json import Json
from kit.secrets import Secret
from services.executor.domain import (
    Delta,
    Outgoing,
    ProviderAnswer,
    ProviderFailure,
    ProviderRequest,
    Run,
    Started,
    Usage,
)


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

    def unpack_parameters(self, packed: bytes) -> Parameters:
        """The parameters of a fallback, as the catalog keeps them."""
        ...


class Credentials(Protocol):
    """Opens providers' credentials."""

    def open(self, credential: view.Credential) -> Secret:
        """:raises Precondition: if this process lacks the key that opens it, or it is damaged"""
        ...


class Provider(Protocol):
    """Speaks one kind of provider's contract."""

    def prepare(
        self,
        version: Version,
        kind: view.ProviderKind,
        takes: view.StructuredOutput = view.StructuredOutput.JSON_SCHEMA,
    ) -> bytes:
        """What is the same in every request of a version; given back in `ProviderRequest.prepared_body`.

        :param takes: what an operator says of the model; an adapter that knows its models does not ask
        """
        ...

    def answer_tokens(self, version: Version) -> int:
        """The most that the model may write, as `prepare` tells it; 0 if it is not told."""
        ...

    async def complete(self, request: ProviderRequest, timeout_seconds: float) -> ProviderAnswer | ProviderFailure:
        """One attempt. Every failure of the provider, of the network or of time is answered, never raised.

        Cancelling it cancels the provider's work, as far as closing the connection does.
        """
        ...

    def request_of(self, request: ProviderRequest, *, streamed: bool) -> Outgoing:
        """What :meth:`complete` and :meth:`stream` send, byte for byte."""
        ...

    def stream(
        self, request: ProviderRequest, *, total_seconds: float, first_seconds: float, idle_seconds: float
    ) -> AsyncGenerator[Started | Delta | ProviderAnswer | ProviderFailure, None]:
        """One attempt, in pieces: `Started` when the first is there, pieces, and at last the whole answer or a failure,
        which is not raised. Only a failure, if nothing was said. Closing it ends the provider's work.

        :param total_seconds: until the last piece
        :param first_seconds: until the first piece
        :param idle_seconds: between pieces
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


class Windows(Protocol):
    """Knows how much models can read, and how much there is to read."""

    def context_window_tokens(self, provider: view.Provider, model: str) -> int | None:
        """None if unknown."""
        ...

    def fits(
        self,
        provider: view.Provider,
        model: str,
        messages: Sequence[Message],
        *,
        tools_text: str = "",
        answer_tokens: int = 0,
    ) -> bool:
        """Whether a prompt surely fits; so does any where the window is not known.

        :param answer_tokens: that the model may write
        """
        ...


class OutputCheck(Protocol):
    """Holds answers against a JSON schema."""

    def violations(self, content: str) -> tuple[str, ...]:
        """Where the answer does not keep to it: `answer.city must be a string`; at most 32."""
        ...

    @property
    def size(self) -> int:
        """About what it holds, in bytes."""
        ...


class OutputChecks(Protocol):
    """Makes them."""

    def of(self, response_format: dict[str, Json]) -> OutputCheck | None:
        """None if the format has no schema."""
        ...
