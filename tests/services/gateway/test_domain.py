from __future__ import annotations

import pytest

from kit.errors import NotFound
from services.gateway import domain


@pytest.mark.parametrize("project", ["", "turnout/", "anotherai/"])
@pytest.mark.parametrize("word", ["deployment/", "deployments/"])
@pytest.mark.parametrize("target", ["helper", "helper:production#1", "helper/beta", "dep_1", "deployment/x"])
def test_a_model_is_the_target_behind_the_word_deployment(project: str, word: str, target: str) -> None:
    assert domain.deployment_of(project + word + target) == target


@pytest.mark.parametrize(
    "model", ["", "gpt-4o", "agent/gpt-4o", "turnout/", "turnout/deployment/", "other/deployment/x", "turnout/x"]
)
def test_a_model_that_names_no_deployment_is_not_found_with_the_way_to_write_it(model: str) -> None:
    with pytest.raises(NotFound, match="write `turnout/deployment/<name>`") as failure:
        domain.deployment_of(model)
    assert failure.value.reason == "MODEL_NOT_FOUND"


def test_a_long_model_is_not_repeated_whole() -> None:
    with pytest.raises(NotFound) as failure:
        domain.deployment_of("x" * 100_000)
    assert len(failure.value.message) < 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("temprature", "temprature"),
        ("ünï 🚂", "ünï 🚂"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 63 + "…"),
        ("a\n\x1b[31m\u202e", "a\\n\\x1b[31m\\u202e"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_caller_wrote_is_repeated_cut_and_printable(text: str, expected: str) -> None:
    assert domain.shown(text) == expected


@pytest.mark.parametrize(
    ("user_agent", "expected"),
    [
        ("OpenAI/Python 3.54.0", True),
        ("AsyncOpenAI/Python 3.54.0", True),
        ("AzureOpenAI/Python 3.54.0", True),
        ("AsyncAzureOpenAI/Python 1.0", True),
        ("OpenAI/JS 6.1.0", True),
        ("OpenAI/Go 2.0.0", True),
        ("turnout-python/0.1", True),
        ("grpc-c/1 turnout-node/0.1", True),
        ("", False),
        ("curl/8.0", False),
        ("MyOpenAI/1.0", False),
        ("python-httpx/0.27", False),
    ],
)
def test_official_clients_are_known_by_their_user_agent(user_agent: str, *, expected: bool) -> None:
    assert domain.is_sdk(user_agent) is expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-stainless-read-timeout": "600"}, 600.0),
        ({"x-stainless-read-timeout": "0.5", "x-stainless-timeout": "9"}, 0.5),
        ({"x-stainless-timeout": "9"}, 9.0),
        ({"x-stainless-read-timeout": "None", "x-stainless-timeout": "9"}, 9.0),
        ({"x-stainless-timeout": "nan"}, None),
        ({"x-stainless-timeout": "inf"}, None),
        ({"x-stainless-timeout": "-1"}, None),
        ({"x-stainless-timeout": "0"}, None),
        ({"x-stainless-timeout": "1e300"}, 86_400.0),
    ],
)
def test_the_time_that_a_caller_waits_is_read_from_the_sdks_headers(
    headers: dict[str, str], expected: float | None
) -> None:
    assert domain.timeout_seconds(headers) == expected
