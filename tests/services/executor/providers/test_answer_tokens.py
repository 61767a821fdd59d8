"""The room in a context window that an answer is asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

from catalog.view import ProviderKind
from completions.version import Parameters
from services.executor.providers.anthropic import Anthropic
from services.executor.providers.exchange import Exchange
from services.executor.providers.ollama import Ollama
from services.executor.providers.openai import OpenAi
from tests.services.executor.providers.wires import offline, version


@pytest.mark.parametrize(
    ("adapter", "given", "tokens"),
    [
        (OpenAi, {}, 0),
        (OpenAi, {"max_output_tokens": 10}, 10),
        (OpenAi, {"max_output_tokens": 10, "extra": {"max_tokens": 20}}, 20),
        (OpenAi, {"extra": {"max_completion_tokens": 30, "max_tokens": "?"}}, 30),
        (OpenAi, {"extra": {"max_tokens": "?"}}, 0),
        (OpenAi, {"max_output_tokens": 10, "extra": {"max_tokens": None}}, 10),
        (OpenAi, {"max_output_tokens": 10, "extra": {"max_completion_tokens": None}}, 10),
        (Ollama, {}, 0),
        (Ollama, {"max_output_tokens": 10, "extra": {"max_tokens": 20}}, 10),
        (Ollama, {"max_output_tokens": 10, "extra": {"options": {"num_predict": 20}}}, 20),
        (Ollama, {"extra": {"options": {"num_predict": -1}}}, 0),
        (Anthropic, {"max_output_tokens": 10}, 10),
        (Anthropic, {"extra": {"max_tokens": 50_000}}, 50_000),
    ],
)
def test_the_room_that_an_answer_is_asked_for_is_known(
    adapter: type[Exchange], given: dict[str, Any], tokens: int
) -> None:
    asker = offline(adapter)

    assert asker.answer_tokens(version(parameters=Parameters(**given))) == tokens


@pytest.mark.parametrize("given", [{}, {"reasoning_budget_tokens": 40_000}, {"extra": {"max_tokens": 50_000}}])
def test_the_room_for_an_answer_is_what_is_told(given: dict[str, Any]) -> None:
    adapter = offline(Anthropic)
    asking = version(parameters=Parameters(**given))

    sent = json.loads(adapter.prepare(asking, ProviderKind.ANTHROPIC).partition(b"\0")[0] + b"}")

    assert adapter.answer_tokens(asking) == sent["max_tokens"] > 0
