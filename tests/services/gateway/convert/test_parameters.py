from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import completion_create_params

from services.gateway.convert import parameters, request


def test_every_parameter_of_openais_is_known() -> None:
    of_openai = set(completion_create_params.CompletionCreateParamsBase.__annotations__) | {"stream"}
    assert of_openai - set(request.FIELDS) - set(parameters.PARAMETERS) == set()


def test_a_parameter_is_in_one_table_only() -> None:
    assert set(request.FIELDS) & set(parameters.PARAMETERS) == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 1),
        ("store", False),
        ("logprobs", False),
        ("service_tier", "auto"),
        ("modalities", ["text"]),
        ("tools", []),
        ("functions", []),
        ("stop", []),
        ("logit_bias", {}),
    ],
)
def test_a_value_that_changes_nothing_is_tolerated(name: str, value: Any) -> None:
    assert parameters.refusal_of(name, value) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("n", True),
        ("n", 1.0),
        ("store", True),
        ("store", 0),
        ("logprobs", True),
        ("service_tier", "flex"),
        ("modalities", ["text", "audio"]),
        ("temperature", 0),
        ("temperature", 1),
        ("max_tokens", 5),
        ("max_completion_tokens", 5),
        ("top_p", 1),
        ("stop", "x"),
        ("tools", [{"type": "function"}]),
        ("tool_choice", "auto"),
        ("response_format", {"type": "text"}),
        ("seed", 1),
        ("reasoning_effort", "low"),
        ("parallel_tool_calls", True),
        ("audio", {"voice": "a"}),
        ("web_search_options", {"a": 1}),
    ],
)
def test_any_other_value_is_refused_by_name_with_advice(name: str, value: Any) -> None:
    problem = parameters.refusal_of(name, value)
    assert problem is not None
    assert (problem.reason, problem.violations[0].field) == ("UNSUPPORTED_PARAMETER", name)
    assert "leave it out" in problem.message


def test_an_unknown_name_is_told_from_an_unsupported_one() -> None:
    problem = parameters.refusal_of("temprature", 1)
    assert problem is not None
    assert (problem.reason, problem.violations[0].field) == ("UNKNOWN_PARAMETER", "temprature")
