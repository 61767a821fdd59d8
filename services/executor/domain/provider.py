"""What is asked of a provider, and what comes of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import ClassVar, NamedTuple

from catalog import view
from completions.chat import Message
from kit.secrets import Secret
from kit.values import Value


class FinishReason(StrEnum):
    """Why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


class Reason(StrEnum):
    """Why an attempt failed; stable words."""

    STREAM_BROKEN = "STREAM_BROKEN"
    """After the answer had begun."""

    TIMEOUT = "PROVIDER_TIMEOUT"
    UNREACHABLE = "PROVIDER_UNREACHABLE"
    ERROR = "PROVIDER_ERROR"
    RATE_LIMITED = "PROVIDER_RATE_LIMITED"
    MALFORMED_RESPONSE = "PROVIDER_MALFORMED_RESPONSE"
    CREDENTIAL_REFUSED = "PROVIDER_CREDENTIAL_REFUSED"
    CREDENTIAL_MISSING = "PROVIDER_CREDENTIAL_MISSING"
    """It has none, or none that this process can open, so nobody was asked."""
    REJECTED_REQUEST = "PROVIDER_REJECTED_REQUEST"
    MODEL_NOT_FOUND = "PROVIDER_MODEL_NOT_FOUND"
    REDIRECTED = "PROVIDER_REDIRECTED"
    ADDRESS_REFUSED = "PROVIDER_ADDRESS_REFUSED"
    CONTEXT_LENGTH_EXCEEDED = "PROVIDER_CONTEXT_LENGTH_EXCEEDED"
    """The prompt does not fit the model's context window."""
    BUSY = "PROVIDER_BUSY"
    """As many calls as are allowed were under way there, and the queue for more was full or too slow."""
    CIRCUIT_OPEN = "PROVIDER_CIRCUIT_OPEN"
    """It failed so often lately that it was not asked."""
    OUTPUT_INVALID = "OUTPUT_INVALID"
    """The answer does not keep to its JSON schema, and the policy is not to take it."""
    CANCELLED = "CANCELLED"
    """The caller left, or its deadline passed, while the attempt ran."""


class Usage(Value):
    """Tokens as the provider billed them; None is what it did not tell."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_input_tokens: int | None = None
    """Of the input: read from the provider's cache."""
    reasoning_output_tokens: int | None = None
    cache_write_input_tokens: int | None = None
    """Of the input: written into the provider's cache, for however long."""
    cache_write_1h_input_tokens: int | None = None
    """Of these: kept for an hour, which costs more."""


class ProviderRequest(Value):
    """One completion, ready for a provider."""

    hidden: ClassVar = frozenset(("prepared_body", "messages"))

    provider: view.Provider
    credential: Secret | None
    """None if the provider wants none."""
    model: str
    prepared_body: bytes
    """What the provider's adapter made of the version."""
    messages: Sequence[Message]
    retry_statuses: frozenset[int] = frozenset()
    """HTTP statuses after which the attempt may be repeated; empty for the executor's setting."""


class Outgoing(NamedTuple):
    """What goes over the wire for a request, but for its headers."""

    method: str
    url: str
    body: bytes


class ProviderAnswer(Value):
    """A complete answer."""

    message: Message
    finish_reason: FinishReason | None
    """None if the provider did not say."""
    usage: Usage
    model: str
    """What answered, in the provider's words; what was asked if it did not say."""
    http_status: int


class ToolCallDelta(Value):
    """A piece of a tool call."""

    index: int
    """Which of the message's calls, from 0."""
    id: str = ""
    """In its first piece only, as `tool`."""
    tool: str = ""
    arguments_json: str = ""
    extra_content_json: str = ""
    """Whole, in one piece only."""


class Delta(Value):
    """A piece of an answer; never empty."""

    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallDelta, ...] = ()


class Started(Value):
    """The first piece of an answer is there: who gives it, in the provider's words."""

    model: str


class ProviderFailure(Value):
    """An attempt without an answer."""

    reason: Reason
    message: str
    """A sentence without content or credentials; a provider's own words are cut and marked as a quotation."""
    http_status: int
    """0 when no answer came."""
    is_retryable: bool
    retry_after_seconds: float | None = None
    """What the provider asked for."""
