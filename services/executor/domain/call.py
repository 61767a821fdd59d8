"""What a caller asks. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from completions.chat import Message
from completions.version import Parameters, Version
from kit.json import Json
from kit.values import Value


class Source(StrEnum):
    """Where a call came from."""

    API = "api"
    SDK = "sdk"


@dataclass(frozen=True, slots=True)
class Overrides:
    """What a call lays over a version; None leaves the version's."""

    parameters: Parameters | None = None
    tools: list[Json] | None = None
    tool_choice: str | dict[str, Json] | None = None
    response_format: dict[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Unread:
    """What a call lays over a version, as it came: most calls of a caller lay the same over, and it is read once."""

    text: bytes
    """Equal for equal overrides."""
    read: Callable[[], Overrides]
    """Raises Invalid with the field at fault."""


class RunCall(Value):
    """What a caller asks, and who it is. Texts are as sent; the JSON ones are parsed when they are checked."""

    deployment: str
    variables_json: str
    messages: tuple[Message, ...]
    routing_key: str
    identity: str
    thread: str
    metadata_json: str
    caller_trace_id: str
    source: Source
    tenant: str
    """uid of the key's project; empty for platform keys."""
    key_id: str
    trace_id: str
    """W3C, 32 hexadecimal digits."""
    deadline: float
    """On the clock of `ports.Clock.now`."""
    user: str = ""
    """The end user; not for the provider."""
    is_streamed: bool = False
    """Whether the answer is wanted in pieces."""
    prefix_messages: tuple[Message, ...] = ()
    """Between the version's leading system messages and its others."""
    overrides: Unread | None = None
    direct: Callable[[], Version] | None = None
    """Reads a whole configuration, which runs instead of a deployment's; its provider is a slug or a uid. Raises
    Invalid."""
    span_id: str = "0" * 16
    """W3C, 16 hexadecimal digits: what the call is done for."""
    is_sampled: bool = False
    """Whether its trace has spans already."""
    context_json: str = ""
    """What rules ask about."""
    mock_response: str = ""
    """What is answered instead of asking a provider; empty to ask one."""
