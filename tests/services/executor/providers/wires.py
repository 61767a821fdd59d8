"""Payloads of providers in the shapes that their documentation shows, and a stream of lines."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from catalog.view import Provider, ProviderKind
from completions.chat import Message, Role
from completions.version import Version
from kit.secrets import Secret
from kit.telemetry import Tracing
from services.executor.domain import ProviderRequest
from services.executor.providers.exchange import Exchange

CREDENTIAL = "sk-planted-credential-0123456789"
RETRY_STATUSES = frozenset({408, 409, 429, 500, 501, 502, 503, 504})
QUESTION = (Message(Role.USER, "What is the capital of France?"),)
TRACING = Tracing(sample_ratio=0, resource={}, exporter=None)
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        "strict": True,
    },
}
CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "clock"}}
CITY_FORMAT: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "city",
        "schema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
    },
}


def version(model: str = "claude-sonnet-4-5", **fields: Any) -> Version:
    """A version of a model."""
    return Version(provider="prv_main", model=model, **fields)


def offline(made: type[Exchange]) -> Exchange:
    """An adapter that sends nothing."""
    return made(None, TRACING, RETRY_STATUSES, 1000, 1000)  # type: ignore[arg-type]  # nothing is sent


def asked(adapter: Exchange, kind: ProviderKind, base_url: str, of: Version, **fields: Any) -> ProviderRequest:
    """A request as the executor makes it."""
    given: dict[str, Any] = {
        "provider": Provider("prv_main", "prj_shop", "main", kind, base_url),
        "credential": Secret(CREDENTIAL),
        "model": of.model,
        "prepared_body": adapter.prepare(of, kind),
        "messages": QUESTION,
    }
    return ProviderRequest(**(given | fields))


async def streamed(adapter: Exchange, request: ProviderRequest, first: float = 5, idle: float = 5) -> list[Any]:
    """All pieces of a streamed answer."""
    pieces = adapter.stream(request, total_seconds=5, first_seconds=first, idle_seconds=idle)
    return [piece async for piece in pieces]


def root(upstream: Any) -> str:
    """Where an upstream starts, for contracts whose paths say their version."""
    return str(upstream.base_url).removesuffix("/v1")


def anthropic_message(*content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A whole answer of Anthropic's."""
    return {
        "id": "msg_01XFDUDYJgAACzvnptvVoYEL",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": list(content) or [{"type": "text", "text": "Paris."}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 12,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 6,
            "service_tier": "standard",
        },
    } | fields


def anthropic_error(kind: str, message: str) -> dict[str, Any]:
    """An error of Anthropic's."""
    return {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy",
    }


def event(kind: str, **fields: Any) -> bytes:
    """An event of Anthropic's as it goes over the wire."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def anthropic_start(**usage: Any) -> bytes:
    """How a streamed answer of Anthropic's begins."""
    begun = anthropic_message(stop_reason=None) | {"content": []}
    begun["usage"] |= {"output_tokens": 1} | usage
    return event("message_start", message=begun)


def anthropic_block(index: int, block: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
    """A content block from its start to its stop."""
    return [
        event("content_block_start", index=index, content_block=block),
        *(event("content_block_delta", index=index, delta=delta) for delta in deltas),
        event("content_block_stop", index=index),
    ]


def anthropic_end(stop_reason: str = "end_turn", **usage: Any) -> list[bytes]:
    """How a streamed answer of Anthropic's ends."""
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return [
        event("message_delta", delta=delta, usage={"output_tokens": 6} | usage),
        event("message_stop"),
    ]


def ollama_chat(content: str = "Paris.", **fields: Any) -> dict[str, Any]:
    """A whole answer of Ollama's; `thinking` and `tool_calls` go into its message."""
    message = {"role": "assistant", "content": content}
    message |= {name: fields.pop(name) for name in ("thinking", "tool_calls") if name in fields}
    return {
        "model": "llama3.2",
        "created_at": "2026-01-05T14:21:09.512Z",
        "message": message,
        "done": True,
        "done_reason": "stop",
        "total_duration": 4883583458,
        "load_duration": 1334875,
        "prompt_eval_count": 26,
        "prompt_eval_duration": 342546000,
        "eval_count": 8,
        "eval_duration": 4535599000,
    } | fields


def ollama_piece(content: str = "", **fields: Any) -> dict[str, Any]:
    """A line of a streamed answer of Ollama's before the last."""
    whole = ollama_chat(content, **fields)
    return {name: whole[name] for name in ("model", "created_at", "message")} | {"done": False}


@dataclass
class Lines:
    """A streamed answer in lines, then the end of the connection."""

    lines: list[Any]

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n")
        for line in self.lines:
            data = line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
