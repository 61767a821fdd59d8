"""Anthropic's Messages API: `POST {base_url}/v1/messages`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

from catalog.view import ProviderKind, StructuredOutput
from completions.contract.response_format import ResponseFormat, response_format_of
from completions.version import Version
from kit.egress import EgressResponse
from kit.json import Json
from services.executor.domain import Outgoing, ProviderAnswer, ProviderRequest
from services.executor.providers import anthropic_answer
from services.executor.providers.anthropic_messages import conversation_of
from services.executor.providers.anthropic_models import Model, Thinking, model_of, thinking_of
from services.executor.providers.anthropic_schema import native_schema
from services.executor.providers.anthropic_stream import Assembly
from services.executor.providers.exchange import Exchange, unsayable
from services.executor.providers.sse import Events
from services.executor.providers.structure import instruction_of
from services.executor.providers.tools import Choice, Mode, choice_of, function_of, only

_API_VERSION: Final = "2023-06-01"
_OURS: Final = frozenset(("model", "messages", "system", "stream"))
"""Members of a request that a version's extra parameters may not set: the answer would not be one that can be read."""
_SEPARATOR: Final = b"\0"
"""Between the pieces of a prepared body: JSON as orjson writes it never has one."""
_MIN_THINKING_TOP_P: Final = 0.95
_OVERLOADED: Final = 529


@dataclass(frozen=True, slots=True)
class Anthropic(Exchange):
    """The adapter."""

    def prepare(
        self, version: Version, kind: ProviderKind, takes: StructuredOutput = StructuredOutput.JSON_SCHEMA
    ) -> bytes:
        """Four pieces: the body up to the system prompt; the wish to think within a budget, which not every
        conversation allows; how to sample where it does not; and what the system prompt must add for structured output
        without native support."""
        given, model = version.parameters, model_of(version.model)
        tools, choice = _tools(version, model)
        thinking = _thinking(version, model, choice)
        native, instruction = _structure(response_format_of(version.response_format), model)
        extra = {name: value for name, value in given.extra.items() if name not in _OURS}
        has_budget = thinking.budget_tokens is not None and "thinking" not in extra
        wanted: dict[str, Json] = {"effort": thinking.effort, "format": native}
        output: dict[str, Json] = {name: value for name, value in wanted.items() if value is not None}
        fields: dict[str, Json] = {
            "max_tokens": thinking.max_tokens,
            **({} if has_budget else _sampling(version, model, thinking)),
            # This contract refuses a sequence of white space alone.
            "stop_sequences": [stop for stop in given.stop if not stop.isspace()] or None,
            "tools": tools or None,
            "tool_choice": choice,
            "thinking": {"type": "adaptive", **_SHOWN} if thinking.adapts else None,
            "output_config": output or None,
        }
        body: dict[str, Json] = {"model": version.model}
        body.update((name, value) for name, value in fields.items() if value is not None)
        if isinstance(theirs := extra.get("output_config"), dict):
            extra["output_config"] = {**output, **theirs}
        body.update(extra)
        budgeted = unbudgeted = b""
        if has_budget:
            budget_said: dict[str, Json] = {"type": "enabled", "budget_tokens": thinking.budget_tokens}
            budgeted = _more({"thinking": budget_said, **_sampling(version, model, thinking)}, extra)
            unbudgeted = _more(_sampling(version, model, Thinking(thinking.max_tokens)), extra)
        said = orjson.dumps({"type": "text", "text": instruction}) if instruction else b""
        return _SEPARATOR.join((orjson.dumps(body)[:-1], budgeted, unbudgeted, said))

    def answer_tokens(self, version: Version) -> int:
        """As the port says: this contract is always told."""
        model = model_of(version.model)
        _, choice = _tools(version, model)
        told = version.parameters.extra.get("max_tokens", _thinking(version, model, choice).max_tokens)
        return told if isinstance(told, int) and told > 0 else 0

    def request_of(self, request: ProviderRequest, *, streamed: bool) -> Outgoing:
        """As :class:`Exchange` says."""
        body, budgeted, unbudgeted, instruction = request.prepared_body.split(_SEPARATOR)
        system, turns, has_begun, may_think = conversation_of(request.messages)
        if has_begun and not model_of(request.model).continues:
            raise unsayable("this model continues no answer that has begun: end with a message of the user")
        pieces = [body, budgeted if may_think else unbudgeted]
        if instruction or len(system) > 1:
            blocks = [orjson.dumps({"type": "text", "text": text}) for text in system]
            pieces += (b',"system":[', b",".join([*blocks, instruction] if instruction else blocks), b"]")
        elif system:
            pieces += (b',"system":', orjson.dumps(system[0]))
        pieces += (b',"messages":', orjson.dumps(turns), b',"stream":true}' if streamed else b"}")
        return Outgoing("POST", request.provider.base_url.rstrip("/") + "/v1/messages", b"".join(pieces))

    def headers(self, request: ProviderRequest, accept: str) -> dict[str, str]:
        """As :class:`Exchange` says."""
        headers = {"Content-Type": "application/json", "Accept": accept, "anthropic-version": _API_VERSION}
        if request.credential is not None:
            headers["x-api-key"] = request.credential.reveal()
        return headers

    def read(self, response: EgressResponse, request: ProviderRequest) -> ProviderAnswer:
        """As :class:`Exchange` says."""
        return anthropic_answer.read(response, request)

    def statuses_of(self, request: ProviderRequest) -> frozenset[int]:
        """As :class:`Exchange` says; and 529, which only this provider knows and says the same, where 503 is."""
        statuses = Exchange.statuses_of(self, request)
        return statuses | {_OVERLOADED} if 503 in statuses else statuses

    def assembly(self, request: ProviderRequest) -> Assembly:
        """As :class:`Exchange` says."""
        return Assembly(request, self.statuses_of(request))

    def framing(self) -> Events:
        """As :class:`Exchange` says."""
        return Events(self.max_response_bytes)


_SHOWN: Final[dict[str, Json]] = {"display": "summarized"}
"""Newer models keep their thoughts to themselves unless asked."""


def _thinking(version: Version, model: Model, choice: dict[str, Json] | None) -> Thinking:
    given = version.parameters
    is_forced = choice is not None and choice["type"] in ("any", "tool")
    # A tool that must be called leaves no room for thinking first: this contract refuses both together.
    effort, budget = (None, None) if is_forced else (given.reasoning_effort, given.reasoning_budget_tokens)
    return thinking_of(model, effort=effort, budget=budget, max_tokens=given.max_output_tokens)


def _sampling(version: Version, model: Model, thinking: Thinking) -> dict[str, Json]:
    """Temperature is narrowed to 0–1. While it thinks, a model takes none, and only a wide `top_p`."""
    given = version.parameters
    if not model.takes_sampling:
        return {}
    if thinking.adapts or thinking.budget_tokens is not None:
        return {"top_p": None if given.top_p is None else max(given.top_p, _MIN_THINKING_TOP_P)}
    temperature = None if given.temperature is None else min(given.temperature, 1.0)
    both = model.takes_both or temperature is None
    return {"temperature": temperature, "top_p": given.top_p if both else None, "top_k": given.top_k}


def _more(fields: dict[str, Json], extra: dict[str, Json]) -> bytes:
    """Further members of a body that is not closed; what extra parameters say stands there already."""
    said = {name: value for name, value in fields.items() if value is not None and name not in extra}
    return b"," + orjson.dumps(said)[1:-1] if said else b""


def _structure(form: ResponseFormat, model: Model) -> tuple[dict[str, Json] | None, str]:
    """`output_config.format`, or what to tell the model."""
    native = native_schema(form.schema) if model.takes_schema and isinstance(form.schema, dict) else None
    if native is not None:
        return {"type": "json_schema", "schema": native}, ""
    return None, instruction_of(form)


def _tools(version: Version, model: Model) -> tuple[list[Json], dict[str, Json] | None]:
    choice = choice_of(version.tool_choice)
    if not version.tools:
        return [], None
    tools: list[Json] = list(version.tools)
    if choice is not None and choice.mode is Mode.REQUIRED and not model.takes_forced_tools:
        # The nearest that there is: the model may choose, but among no others.
        tools = only(tools, choice.tool) if choice.tool else tools
        choice = Choice(Mode.AUTO)
    said: dict[str, Json] | None = None
    if choice is not None:
        match choice.mode:
            case Mode.REQUIRED if choice.tool:
                said = {"type": "tool", "name": choice.tool}
            case Mode.REQUIRED:
                said = {"type": "any"}
            case mode:
                said = {"type": mode.value}
    if version.parameters.parallel_tool_calls is False and (said is None or said["type"] != "none"):
        said = {**(said or {"type": "auto"}), "disable_parallel_tool_use": True}
    return [_tool(tool) for tool in tools], said


def _tool(tool: Json) -> Json:
    function = function_of(tool)
    if function is None:
        # In the provider's own shape, such as a tool that it runs itself.
        return tool
    said: dict[str, Json] = {"name": function.name}
    if function.description:
        said["description"] = function.description
    said["input_schema"] = {"type": "object", **function.parameters}
    return said
