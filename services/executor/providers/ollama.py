"""Ollama's own chat: `POST {base_url}/api/chat`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import orjson

from catalog.view import ProviderKind, StructuredOutput
from completions.chat import ImagePart, Message, Role
from completions.contract.response_format import response_format_of
from completions.version import Parameters, Version
from kit.egress import EgressResponse
from kit.json import Json
from services.executor.domain import Outgoing, ProviderAnswer, ProviderRequest
from services.executor.providers import ollama_answer
from services.executor.providers.exchange import Exchange, unsayable
from services.executor.providers.images import inline_image
from services.executor.providers.ndjson import Lines
from services.executor.providers.ollama_stream import Assembly
from services.executor.providers.tools import Mode, arguments_of, choice_of, only

_OURS: Final = frozenset(("model", "messages", "stream"))
"""Members of a request that a version's extra parameters may not set: the answer would not be one that can be read."""
_LEVELS: Final = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}


@dataclass(frozen=True, slots=True)
class Ollama(Exchange):
    """The adapter."""

    stream_type: ClassVar[str] = "application/x-ndjson"

    def prepare(
        self, version: Version, kind: ProviderKind, takes: StructuredOutput = StructuredOutput.JSON_SCHEMA
    ) -> bytes:
        """The body of a request up to its messages."""
        given = version.parameters
        every: dict[str, Json] = {
            "temperature": given.temperature,
            "top_p": given.top_p,
            "top_k": given.top_k,
            "num_predict": given.max_output_tokens,
            "presence_penalty": given.presence_penalty,
            "frequency_penalty": given.frequency_penalty,
            "stop": list(given.stop) or None,
            "seed": given.seed,
        }
        options: dict[str, Json] = {name: value for name, value in every.items() if value is not None}
        extra = {name: value for name, value in given.extra.items() if name not in _OURS}
        if isinstance(theirs := extra.get("options"), dict):
            extra["options"] = {**options, **theirs}
        fields: dict[str, Json] = {
            "options": options or None,
            "tools": _tools(version) or None,
            "format": _format(version),
            "think": _think(given, version.model),
            # Else a prompt that is too long loses its beginning, and nobody is told.
            "truncate": False,
        }
        body: dict[str, Json] = {"model": version.model}
        body.update((name, value) for name, value in fields.items() if value is not None)
        body.update(extra)
        return orjson.dumps(body)[:-1] + b',"messages":'

    def answer_tokens(self, version: Version) -> int:
        """As the port says; options of the version's extra parameters win."""
        options = version.parameters.extra.get("options")
        told: Json = version.parameters.max_output_tokens
        if isinstance(options, dict):
            told = options.get("num_predict", told)
        return told if isinstance(told, int) and told > 0 else 0

    def request_of(self, request: ProviderRequest, *, streamed: bool) -> Outgoing:
        """As :class:`Exchange` says. Pictures must come as `data:` URLs: Ollama fetches none."""
        messages = orjson.dumps(_messages(request.messages))
        # It streams unless told not to.
        end = b',"stream":true}' if streamed else b',"stream":false}'
        url = request.provider.base_url.rstrip("/") + "/api/chat"
        return Outgoing("POST", url, b"".join((request.prepared_body, messages, end)))

    def read(self, response: EgressResponse, request: ProviderRequest) -> ProviderAnswer:
        """As :class:`Exchange` says."""
        return ollama_answer.read(response, request, self.statuses_of(request))

    def assembly(self, request: ProviderRequest) -> Assembly:
        """As :class:`Exchange` says."""
        return Assembly(request, self.statuses_of(request))

    def framing(self) -> Lines:
        """As :class:`Exchange` says."""
        return Lines(self.max_response_bytes)


def _tools(version: Version) -> list[Json]:
    """It cannot be told what to call, only what there is."""
    choice = choice_of(version.tool_choice)
    if choice is None or choice.mode is Mode.AUTO:
        return list(version.tools)
    if choice.mode is Mode.NONE:
        return []
    return only(version.tools, choice.tool) if choice.tool else list(version.tools)


def _format(version: Version) -> Json:
    form = response_format_of(version.response_format)
    if form.form == "text":
        return None
    return form.schema if isinstance(form.schema, dict) else "json"


def _think(given: Parameters, model: str) -> bool | str | None:
    effort, budget = given.reasoning_effort, given.reasoning_budget_tokens
    if effort == "none" or budget == 0:
        return False
    if effort is None:
        return None if budget is None else True
    # Other models refuse a level.
    return _LEVELS.get(effort, True) if "gpt-oss" in model else True


def _messages(messages: Sequence[Message]) -> list[dict[str, Json]]:
    names: dict[str, str] = {}
    said = []
    for message in messages:
        names.update((call.id, call.name) for call in message.tool_calls)
        said.append(_message(message, names))
    return said


def _message(message: Message, names: dict[str, str]) -> dict[str, Json]:
    role = Role.SYSTEM if message.role is Role.DEVELOPER else message.role
    texts = [part.text for part in message.parts if not isinstance(part, ImagePart)]
    said: dict[str, Json] = {"role": role.value, "content": "\n".join(texts) if texts else message.content}
    images: list[Json] = [_image(part.url) for part in message.parts if isinstance(part, ImagePart)]
    if images:
        said["images"] = images
    if message.reasoning:
        said["thinking"] = message.reasoning
    if message.tool_calls:
        said["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": arguments_of(call.arguments_json)}}
            for call in message.tool_calls
        ]
    if message.role is Role.TOOL:
        if name := message.name or names.get(message.tool_call_id, ""):
            said["tool_name"] = name
        if message.tool_call_id:
            said["tool_call_id"] = message.tool_call_id
    return said


def _image(url: str) -> str:
    if (image := inline_image(url)) is not None:
        return image.base64
    raise unsayable(
        "Ollama fetches no pictures: send each as a data: URL (data:image/png;base64,…) instead of an address"
    )
