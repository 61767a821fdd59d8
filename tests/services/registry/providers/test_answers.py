from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kit.json import Json
from services.registry.domain import ProviderKind, ProviderModel
from services.registry.providers.answers import READ, Answer, Unreadable, anthropic, ollama, openai


def test_openais_list_is_read_with_what_other_servers_add_to_it() -> None:
    answer = openai(
        {
            "data": [
                {"id": "gpt-4o", "created": 1715367049, "owned_by": "system"},
                {"id": "z/model", "context_length": 8192, "created": 0, "display_name": "Z"},
                {"id": "v", "max_model_len": 4096, "created": "yesterday", "context_window": -5},
            ]
        }
    )

    assert answer == Answer(
        (
            ProviderModel("gpt-4o", created_at=datetime(2024, 5, 10, 18, 50, 49, tzinfo=UTC)),
            ProviderModel("z/model", "Z", context_window_tokens=8192),
            ProviderModel("v", context_window_tokens=4096),
        )
    )
    assert openai([{"id": "bare"}]).models == (ProviderModel("bare"),)


def test_anthropics_list_is_read_page_by_page() -> None:
    entry: dict[str, Json] = {
        "type": "model",
        "id": "claude-x",
        "display_name": "Claude X",
        "created_at": "2025-02-19T00:00:00Z",
    }
    unknown: dict[str, Json] = {"id": "claude-y", "created_at": "1970-01-01T00:00:00Z"}

    answer = anthropic({"data": [entry, unknown], "has_more": True, "last_id": "claude-y"})

    assert answer.models == (
        ProviderModel("claude-x", "Claude X", datetime(2025, 2, 19, tzinfo=UTC)),
        ProviderModel("claude-y"),
    )
    assert answer.next_page == "claude-y"
    assert anthropic({"data": [entry], "has_more": False}).next_page == ""
    assert anthropic({"data": [], "has_more": True}).next_page == ""


def test_ollamas_list_is_read() -> None:
    listed: Json = {
        "models": [{"name": "llama3:latest", "model": "llama3:latest", "modified_at": "2025-01-01T00:00:00Z"}]
    }

    assert ollama(listed).models == (ProviderModel("llama3:latest"),)


@pytest.mark.parametrize(
    "document",
    [
        None,
        1,
        "models",
        {},
        {"data": {}, "models": {}},
        {"data": None, "models": None},
        {"data": ["small"], "models": ["small"]},
        {"data": [{}], "models": [{}]},
        {"data": [{"id": 5}], "models": [{"name": 5}]},
        {"data": [{"id": ""}], "models": [{"name": ""}]},
        {"data": [{"id": "x" * 257}], "models": [{"name": "x" * 257}]},
        {"data": [{"id": "a\0b"}], "models": [{"name": "a\0b"}]},
        {"data": [{"id": "\x1b[31mred"}], "models": [{"name": "\x1b[31mred"}]},
        {"data": [{"id": "a\u202eb"}], "models": [{"name": "a\u202eb"}]},
    ],
)
@pytest.mark.parametrize("kind", ProviderKind)
def test_what_is_no_list_of_models_is_refused_without_repeating_it(kind: ProviderKind, document: Any) -> None:
    with pytest.raises(Unreadable) as failure:
        READ[kind](document)

    assert str(failure.value).isprintable()
    assert "red" not in str(failure.value)


@pytest.mark.parametrize("created", [1e300, -1, True, [], 10**18, "9" * 1000, "0001-01-01T00:00:00+14:00"])
def test_a_time_that_is_none_is_absent(created: Any) -> None:
    assert openai([{"id": "m", "created": created, "created_at": created}]).models == (ProviderModel("m"),)


def test_texts_and_numbers_of_theirs_are_bounded() -> None:
    entry: dict[str, Json] = {"id": "m", "display_name": "d" * 5000, "context_window": 10**18}

    [model] = openai([entry]).models

    assert (len(model.display_name), model.context_window_tokens) == (200, 0)
