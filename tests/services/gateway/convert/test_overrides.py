from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from kit.errors import Invalid
from services.gateway.convert import request
from turnout.executor.v1 import execution_service_pb2 as pb

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def read(**fields: Any) -> pb.RunRequest:
    body = {"model": "deployment/a", "messages": [], **fields}
    return request.read(orjson.dumps(body), user_agent="", max_bytes=1 << 20).run


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"temperature": 0.5}, {"temperature": 0.5}),
        ({"top_p": 1}, {"top_p": 1.0}),
        ({"top_k": 3}, {"top_k": 3}),
        ({"max_tokens": 5}, {"max_output_tokens": 5}),
        ({"max_completion_tokens": 5}, {"max_output_tokens": 5}),
        ({"max_completion_tokens": 5, "max_tokens": 5}, {"max_output_tokens": 5}),
        ({"stop": "a"}, {"stop": ["a"]}),
        ({"stop": ["a", "b"]}, {"stop": ["a", "b"]}),
        ({"seed": -(2**63) + 1}, {"seed": -(2**63) + 1}),
        ({"presence_penalty": -2}, {"presence_penalty": -2.0}),
        ({"frequency_penalty": 0.1}, {"frequency_penalty": 0.1}),
        ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        ({"reasoning": {"effort": "low", "budget": 7}}, {"reasoning_effort": "low", "reasoning_budget_tokens": 7}),
    ],
)
def test_a_parameter_is_laid_over(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    given = read(**fields).overrides.parameters
    found = {field.name: getattr(given, field.name) for field, _ in given.ListFields()}
    assert found == expected


def test_tools_and_formats_are_laid_over_as_they_were_written() -> None:
    response_format = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"b": 1, "a": 9007199254740993}}}
    choice = {"type": "function", "function": {"name": "weather"}}
    given = read(tools=[TOOL], tool_choice=choice, response_format=response_format).overrides
    assert given.tools_json == orjson.dumps([TOOL]).decode()
    assert given.tool_choice_json == orjson.dumps(choice).decode()
    assert given.response_format_json == orjson.dumps(response_format).decode()
    assert read(tool_choice="none").overrides.tool_choice_json == '"none"'
    # To say that there are none is to say something.
    assert read(tools=[]).overrides.tools_json == "[]"


def test_what_nobody_here_knows_goes_to_the_provider_as_it_is() -> None:
    extra = {
        "verbosity": "low",
        "logit_bias": {"50256": -100},
        "store": True,
        "reasoning": {"effort": "low", "exclude": True},
        "provider": {"order": ["a"]},
        "chat_template_kwargs": {"think": [1, None, 2.5]},
    }
    assert json.loads(read(**extra).overrides.parameters.extra_json) == extra


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"stop": []},
        {"tool_choice": {}},
        {"response_format": {}},
        {"reasoning_effort": ""},
        {"store": False, "service_tier": "auto", "logit_bias": {}, "n": 1, "logprobs": False},
        {"use_cache": "never", "use_fallback": "auto"},
    ],
)
def test_what_changes_nothing_makes_no_version_of_its_own(fields: dict[str, Any]) -> None:
    assert not read(**fields).HasField("overrides")


@pytest.mark.parametrize(
    ("fields", "path", "reason"),
    [
        ({"temperature": "1"}, "temperature", "INVALID_TYPE"),
        ({"temperature": True}, "temperature", "INVALID_TYPE"),
        ({"max_tokens": 1.5}, "max_tokens", "INVALID_TYPE"),
        ({"max_tokens": True}, "max_tokens", "INVALID_TYPE"),
        ({"max_tokens": 2**31}, "max_tokens", "UNSUPPORTED_VALUE"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, "max_completion_tokens", "UNSUPPORTED_VALUE"),
        ({"top_k": -(2**40)}, "top_k", "UNSUPPORTED_VALUE"),
        ({"seed": 2**63}, "seed", "UNSUPPORTED_VALUE"),
        ({"seed": "a"}, "seed", "INVALID_TYPE"),
        ({"stop": 1}, "stop", "INVALID_TYPE"),
        ({"stop": ["a", 1]}, "stop[1]", "INVALID_TYPE"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls", "INVALID_TYPE"),
        ({"reasoning_effort": 1}, "reasoning_effort", "INVALID_TYPE"),
        ({"reasoning": {"budget": "a"}}, "reasoning.budget", "INVALID_TYPE"),
        ({"tools": {}}, "tools", "INVALID_TYPE"),
        ({"tool_choice": []}, "tool_choice", "INVALID_TYPE"),
        ({"response_format": "json"}, "response_format", "INVALID_TYPE"),
    ],
)
def test_what_no_contract_could_hold_is_named(fields: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(Invalid) as failure:
        read(**fields)
    assert (failure.value.violations[0].field, failure.value.reason) == (path, reason)


def test_the_smallest_seed_is_taken_and_what_is_too_small_is_told_its_own_bound() -> None:
    assert read(seed=-(2**63)).overrides.parameters.seed == -(2**63)
    for name, least in (("top_k", 1), ("max_tokens", 1), ("max_completion_tokens", 1)):
        with pytest.raises(Invalid) as failure:
            read(**{name: -(2**40)})
        assert failure.value.violations[0].message == f"must be at least {least}"
    with pytest.raises(Invalid) as failure:
        read(reasoning={"budget": -(2**40)})
    assert failure.value.violations[0].message == "must be at least 0"
    with pytest.raises(Invalid) as failure:
        read(seed=2**63)
    assert failure.value.violations[0].message == "must be at most 9223372036854775807"
