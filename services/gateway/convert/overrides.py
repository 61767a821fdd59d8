"""What a call lays over its deployment, by its name in OpenAI's body. Ranges are the executor's matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kit.json import Json, dump
from services.gateway.convert import refusal
from turnout.executor.v1 import execution_service_pb2 as pb
from turnout.registry.v1 import version_pb2

Take = Callable[[pb.RunRequest, Json], None]

_INT32: Final = (1 << 31) - 1
_INT64: Final = (1 << 63) - 1


def _number(name: str) -> Take:
    def take(run: pb.RunRequest, value: Json) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise refusal.wrong_type(name, "a number", value)
        setattr(run.overrides.parameters, name, float(value))

    return take


def _integer(name: str, least: int, largest: int) -> Take:
    def take(run: pb.RunRequest, value: Json) -> None:
        setattr(run.overrides.parameters, name, _whole(name, value, least, largest))

    return take


def _max_tokens(name: str) -> Take:
    def take(run: pb.RunRequest, value: Json) -> None:
        tokens, parameters = _whole(name, value, 1, _INT32), run.overrides.parameters
        if parameters.HasField("max_output_tokens") and parameters.max_output_tokens != tokens:
            raise refusal.wrong_value(name, "must not differ from its other name: give max_completion_tokens alone")
        parameters.max_output_tokens = tokens

    return take


def _whole(path: str, value: Json, least: int, largest: int) -> int:
    """:param least: for the sentence; what fits the contract's integer at all, the executor holds against it"""
    if isinstance(value, bool) or not isinstance(value, int):
        raise refusal.wrong_type(path, "an integer", value)
    if value > largest:
        raise refusal.wrong_value(path, f"must be at most {largest}")
    if value < -largest - 1:
        raise refusal.wrong_value(path, f"must be at least {least}")
    return value


def _stop(run: pb.RunRequest, value: Json) -> None:
    if isinstance(value, str):
        run.overrides.parameters.stop.append(value)
        return
    if not isinstance(value, list):
        raise refusal.wrong_type("stop", "a string or an array of strings", value)
    given = [refusal.text(f"stop[{index}]", each) for index, each in enumerate(value)]
    if given:
        run.overrides.parameters.stop.extend(given)


def _parallel_tool_calls(run: pb.RunRequest, value: Json) -> None:
    if not isinstance(value, bool):
        raise refusal.wrong_type("parallel_tool_calls", "a boolean", value)
    run.overrides.parameters.parallel_tool_calls = value


def _reasoning_effort(run: pb.RunRequest, value: Json) -> None:
    if effort := refusal.text("reasoning_effort", value):
        run.overrides.parameters.reasoning_effort = effort


def _tools(run: pb.RunRequest, value: Json) -> None:
    if not isinstance(value, list):
        raise refusal.wrong_type("tools", "an array of tools", value)
    # An empty one too: it says that this call has none.
    run.overrides.tools_json = dump(value)


def _tool_choice(run: pb.RunRequest, value: Json) -> None:
    if not isinstance(value, (str, dict)):
        raise refusal.wrong_type("tool_choice", "a string or an object", value)
    if value:
        run.overrides.tool_choice_json = dump(value)


def _response_format(run: pb.RunRequest, value: Json) -> None:
    if not isinstance(value, dict):
        raise refusal.wrong_type("response_format", "an object", value)
    if value:
        run.overrides.response_format_json = dump(value)


def is_reasoning(value: Json) -> bool:
    """Whether it is an effort, a budget or both, as clients of AnotherAI write them; else it is a provider's own."""
    return isinstance(value, dict) and bool(value) and value.keys() <= {"effort", "budget"}


def reasoning(run: pb.RunRequest, value: Json) -> None:
    """:param value: of which :func:`is_reasoning` holds"""
    assert isinstance(value, dict)  # noqa: S101  # as said
    if (effort := value.get("effort")) is not None:
        run.overrides.parameters.reasoning_effort = refusal.text("reasoning.effort", effort)
    if (budget := value.get("budget")) is not None:
        run.overrides.parameters.reasoning_budget_tokens = _whole("reasoning.budget", budget, 0, _INT32)


def add_extra(run: pb.RunRequest, extra: dict[str, Json]) -> None:
    """What the provider gets as it is."""
    run.overrides.parameters.extra_json = dump(extra)


def move_to(direct: version_pb2.Version, run: pb.RunRequest) -> None:
    """Make what a call would lay over a deployment part of the configuration that it brings."""
    if not run.HasField("overrides"):
        return
    given = run.overrides
    if given.HasField("parameters"):
        direct.parameters.CopyFrom(given.parameters)
    direct.tools_json = given.tools_json
    direct.tool_choice_json = given.tool_choice_json
    direct.response_format_json = given.response_format_json
    run.ClearField("overrides")


FIELDS: Final[dict[str, Take]] = {
    "frequency_penalty": _number("frequency_penalty"),
    "max_completion_tokens": _max_tokens("max_completion_tokens"),
    "max_tokens": _max_tokens("max_tokens"),
    "parallel_tool_calls": _parallel_tool_calls,
    "presence_penalty": _number("presence_penalty"),
    "reasoning_effort": _reasoning_effort,
    "response_format": _response_format,
    "seed": _integer("seed", -_INT64 - 1, _INT64),
    "stop": _stop,
    "temperature": _number("temperature"),
    "tool_choice": _tool_choice,
    "tools": _tools,
    "top_k": _integer("top_k", 1, _INT32),
    "top_p": _number("top_p"),
}
