"""OpenAI's chat completions, which most servers of models offer: `POST {base_url}/chat/completions`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from catalog.view import ProviderKind, StructuredOutput
from completions.chat import ImagePart, Message, Part, Role, ToolCall
from completions.contract.response_format import response_format_of
from completions.tools import name_of
from completions.version import Version
from kit.egress import EgressResponse
from kit.json import Json
from services.executor.domain import Outgoing, ProviderAnswer, ProviderRequest
from services.executor.providers import openai_answer
from services.executor.providers.exchange import Exchange
from services.executor.providers.openai_stream import Assembly
from services.executor.providers.sse import Events
from services.executor.providers.structure import instruction_of
from services.executor.providers.tools import in_openais_words

_OURS: Final = frozenset(("model", "messages", "stream", "stream_options"))
"""Members of a request that a version's extra parameters may not set: the answer would not be one that can be read."""
_SCHEMA_NAME: Final = "answer"
_SEPARATOR: Final = b"\0"
"""In a prepared body: JSON as orjson writes it never has one."""
_STREAMED: Final = b',"stream":true,"stream_options":{"include_usage":true}}'


@dataclass(frozen=True, slots=True)
class OpenAi(Exchange):
    """The adapter."""

    def prepare(
        self, version: Version, kind: ProviderKind, takes: StructuredOutput = StructuredOutput.JSON_SCHEMA
    ) -> bytes:
        """The body of a request up to its messages; behind a separator, if there is any of it, what the messages need
        to know: the names of custom tools, and what is said in words of the response format."""
        given, is_openai = version.parameters, kind is ProviderKind.OPENAI
        response_format, instruction = _structure(version.response_format, takes)
        fields: dict[str, Json] = {
            "temperature": given.temperature,
            "top_p": given.top_p,
            "top_k": given.top_k,
            # OpenAI's newer models refuse the old word; other servers know only that one.
            "max_completion_tokens" if is_openai else "max_tokens": given.max_output_tokens,
            "presence_penalty": given.presence_penalty,
            "frequency_penalty": given.frequency_penalty,
            "stop": list(given.stop) or None,
            "seed": given.seed,
            # As the choice among them: refused where there are none.
            "parallel_tool_calls": given.parallel_tool_calls if version.tools else None,
            "reasoning_effort": given.reasoning_effort,
            "tools": version.tools or None,
            "tool_choice": in_openais_words(version.tool_choice, version.tools),
            "response_format": response_format,
        }
        body: dict[str, Json] = {"model": version.model}
        body.update((name, value) for name, value in fields.items() if value is not None)
        body.update((name, value) for name, value in given.extra.items() if name not in _OURS)
        prepared = orjson.dumps(body)[:-1] + b',"messages":'
        custom = [name_of(tool) for tool in version.tools if isinstance(tool, dict) and tool.get("type") == "custom"]
        return prepared + _SEPARATOR + orjson.dumps([custom, instruction]) if custom or instruction else prepared

    def request_of(self, request: ProviderRequest, *, streamed: bool) -> Outgoing:
        """As :class:`Exchange` says; this contract carries every message."""
        url = request.provider.base_url.rstrip("/") + "/chat/completions"
        body, _, rest = request.prepared_body.partition(_SEPARATOR)
        messages = _messages(request, *(orjson.loads(rest) if rest else ()))
        return Outgoing("POST", url, b"".join((body, messages, _STREAMED if streamed else b"}")))

    def read(self, response: EgressResponse, request: ProviderRequest) -> ProviderAnswer:
        """As :class:`Exchange` says."""
        return openai_answer.read(response, request, self.statuses_of(request))

    def assembly(self, request: ProviderRequest) -> Assembly:
        """As :class:`Exchange` says."""
        return Assembly(request, self.statuses_of(request))

    def framing(self) -> Events:
        """As :class:`Exchange` says."""
        return Events(self.max_response_bytes)


def _structure(given: dict[str, Json] | None, takes: StructuredOutput) -> tuple[Json, str]:
    """What is sent of a response format, and what is said in words. A schema gets the name that this contract wants and
    no other asks for."""
    if given is None:
        return None, ""
    if takes is StructuredOutput.JSON_SCHEMA:
        inner = given.get("json_schema")
        if not isinstance(inner, dict) or inner.get("name"):
            return given, ""
        return given | {"json_schema": inner | {"name": _SCHEMA_NAME}}, ""
    instruction = instruction_of(response_format_of(given))
    return {"type": "json_object"} if instruction and takes is StructuredOutput.JSON_OBJECT else None, instruction


def _messages(request: ProviderRequest, custom: Sequence[str] = (), instruction: str = "") -> bytes:
    is_openai = request.provider.kind is ProviderKind.OPENAI
    said = [_message(message, custom, is_openai=is_openai) for message in request.messages]
    return orjson.dumps(_instructed(said, instruction) if instruction else said)


def _instructed(said: list[dict[str, object]], instruction: str) -> list[dict[str, object]]:
    if not said or said[0]["role"] not in (Role.SYSTEM, Role.DEVELOPER):
        return [{"role": Role.SYSTEM, "content": instruction}, *said]
    # Into the system message that there is: templates of some models refuse a second one.
    content = said[0]["content"]
    if isinstance(content, list):
        content = [*content, {"type": "text", "text": instruction}]
    else:
        content = f"{content}\n\n{instruction}" if content else instruction
    return [said[0] | {"content": content}, *said[1:]]


def _message(message: Message, custom: Sequence[str], *, is_openai: bool) -> dict[str, object]:
    # OpenAI's newest role; servers that do not know it refuse the request, and those that do take the old one for it.
    is_renamed = message.role is Role.DEVELOPER and not is_openai
    said: dict[str, object] = {"role": Role.SYSTEM if is_renamed else message.role}
    if message.parts:
        said["content"] = _parts(message.parts) if is_openai or _has_image(message) else "\n".join(_texts(message))
    elif message.content or message.role is not Role.ASSISTANT:
        said["content"] = message.content
    else:
        said["content"] = None if message.tool_calls else ""
    if message.name:
        said["name"] = message.name
    if message.tool_calls:
        said["tool_calls"] = [
            _call(call, is_custom=call.name in custom, is_openai=is_openai) for call in message.tool_calls
        ]
    if message.tool_call_id:
        said["tool_call_id"] = message.tool_call_id
    # OpenAI refuses members it does not know; servers of reasoning models want theirs back.
    if message.reasoning and not is_openai:
        said["reasoning_content"] = message.reasoning
    return said


def _call(call: ToolCall, *, is_custom: bool, is_openai: bool) -> dict[str, object]:
    kind, arguments = ("custom", "input") if is_custom else ("function", "arguments")
    said: dict[str, object] = {"id": call.id, "type": kind, kind: {"name": call.name, arguments: call.arguments_json}}
    if call.extra_content_json and not is_openai:
        said["extra_content"] = orjson.Fragment(call.extra_content_json)
    return said


def _has_image(message: Message) -> bool:
    return any(isinstance(part, ImagePart) for part in message.parts)


def _texts(message: Message) -> list[str]:
    """Its parts' texts; servers of models that read no pictures often take no parts at all."""
    return [part.text for part in message.parts if not isinstance(part, ImagePart)]


def _parts(parts: Sequence[Part]) -> list[dict[str, object]]:
    said: list[dict[str, object]] = []
    for part in parts:
        if isinstance(part, ImagePart):
            image = {"url": part.url, "detail": part.detail} if part.detail else {"url": part.url}
            said.append({"type": "image_url", "image_url": image})
        else:
            said.append({"type": "text", "text": part.text})
    return said
