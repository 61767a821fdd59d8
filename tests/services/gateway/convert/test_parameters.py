from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import completion_create_params

from services.gateway.convert import overrides, parameters, request

TO_THE_PROVIDER = {
    "logit_bias",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "verbosity",
    "web_search_options",
}


def test_of_every_parameter_of_openais_it_is_known_what_becomes_of_it() -> None:
    of_openai = set(completion_create_params.CompletionCreateParamsBase.__annotations__) | {"stream"}
    known = set(request.FIELDS) | set(overrides.FIELDS) | set(parameters.PARAMETERS)
    assert of_openai - known == TO_THE_PROVIDER


def test_a_parameter_is_in_one_table_only() -> None:
    tables: list[dict[str, Any]] = [
        request.FIELDS,
        request.OWN,
        overrides.FIELDS,
        parameters.PARAMETERS,
        parameters.NEUTRAL,
    ]
    names = [name for table in tables for name in table]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 1),
        ("logprobs", False),
        ("modalities", ["text"]),
        ("functions", []),
        ("audio", {}),
        ("use_cache", "auto"),
        ("use_fallback", "auto"),
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
        ("logprobs", True),
        ("top_logprobs", 3),
        ("modalities", ["text", "audio"]),
        ("functions", [{"name": "f"}]),
        ("function_call", "auto"),
        ("audio", {"voice": "a"}),
        ("moderation", {"model": "m"}),
        ("use_cache", "always"),
        ("use_fallback", "never"),
        ("use_fallback", ["gpt-4o"]),
    ],
)
def test_any_other_value_is_refused_by_name_with_advice(name: str, value: Any) -> None:
    problem = parameters.refusal_of(name, value)
    assert problem is not None
    assert (problem.reason, problem.violations[0].field) == ("UNSUPPORTED_PARAMETER", name)
    assert "leave it out" in problem.message or "instead" in problem.message


@pytest.mark.parametrize(
    ("name", "value", "neutral"),
    [
        ("store", False, True),
        ("store", True, False),
        ("store", 0, False),
        ("service_tier", "auto", True),
        ("x", 1, False),
    ],
)
def test_what_changes_nothing_at_the_provider_is_not_sent_there(name: str, value: Any, *, neutral: bool) -> None:
    assert parameters.is_neutral(name, value) == neutral
