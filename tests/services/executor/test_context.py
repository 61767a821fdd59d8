"""Context windows: from the provider's settings, else the list; and what fits them."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from catalog.view import ModelFacts, Provider, ProviderKind
from completions.chat import Message, Role
from services.executor.context import ContextWindows, rules_of
from services.executor.prices import GenaiPrices

OPENAI = Provider("p", "prj", "openai", ProviderKind.OPENAI, "https://api.openai.com/v1")
ANTHROPIC = Provider("q", "prj", "anthropic", ProviderKind.ANTHROPIC, "https://api.anthropic.com")
LOCAL = Provider("r", "prj", "local", ProviderKind.OPENAI_COMPATIBLE, "http://127.0.0.1:8080/v1")


def with_window(provider: Provider, model: str, tokens: int) -> Provider:
    return replace(provider, model_facts={model: ModelFacts(None, None, None, tokens)})


class Words:
    """A vocabulary of which every word is a token."""

    def count(self, text: str) -> int:
        return len(text.split())


def user(text: str) -> list[Message]:
    return [Message(Role.USER, text)]


def test_the_list_knows_windows_and_a_providers_own_settings_go_before_it() -> None:
    windows = ContextWindows(GenaiPrices())
    assert windows.context_window_tokens(OPENAI, "gpt-4o") == 128_000
    assert windows.context_window_tokens(with_window(OPENAI, "gpt-4o", 32_000), "gpt-4o") == 32_000
    assert windows.context_window_tokens(with_window(OPENAI, "gpt-4o", 0), "gpt-4o") == 128_000
    assert windows.context_window_tokens(with_window(LOCAL, "smol", 2048), "smol") == 2048


def test_what_nobody_knows_is_unknown_and_takes_any_prompt() -> None:
    windows = ContextWindows(GenaiPrices())
    assert windows.context_window_tokens(LOCAL, "gpt-4o") is None
    assert windows.context_window_tokens(OPENAI, "no-such-model") is None
    assert windows.fits(LOCAL, "smol", user("word " * 1_000_000))


async def test_nobody_waits_for_the_list_to_know_a_window() -> None:
    prices = GenaiPrices()
    async with prices.loading():
        begun = time.perf_counter()
        before = prices.context_window_tokens(OPENAI, "gpt-4o")
        assert before is None or time.perf_counter() - begun < 0.1
        assert prices.context_window_tokens(with_window(OPENAI, "gpt-4o", 7), "gpt-4o") == 7
    assert prices.context_window_tokens(OPENAI, "gpt-4o") == 128_000


def test_a_model_is_looked_up_once() -> None:
    prices = GenaiPrices()
    prices.context_window_tokens(OPENAI, "gpt-4o")
    begun = time.process_time()
    for _ in range(1000):
        prices.context_window_tokens(OPENAI, "gpt-4o")
    assert time.process_time() - begun < 0.05


def test_messages_tools_and_the_answer_fill_a_window() -> None:
    windows, provider = ContextWindows(GenaiPrices()), with_window(LOCAL, "smol", 1000)
    assert windows.fits(provider, "smol", user("hello"))
    assert not windows.fits(provider, "smol", user("Hund und Katze " * 400))
    assert windows.fits(provider, "smol", user("hello"), answer_tokens=900)
    assert not windows.fits(provider, "smol", user("hello"), answer_tokens=1000)
    tools = '[{"function":{"name":"weather","description":"' + "Wetter und Wind " * 200 + '"}}]'
    assert not windows.fits(provider, "smol", user("hello"), tools_text=tools)
    assert windows.fits(provider, "smol", user("hello"), tools_text=tools[:50])


def test_openais_models_are_counted_where_the_vocabulary_is_at_hand_and_others_estimated() -> None:
    prompt = user("unwahrscheinlich " * 300)
    provider = with_window(OPENAI, "gpt-4o", 1000)
    assert not ContextWindows(GenaiPrices()).fits(provider, "gpt-4o", prompt)
    counted = ContextWindows(GenaiPrices(), Words())
    assert counted.fits(provider, "gpt-4o", prompt)
    assert not counted.fits(with_window(ANTHROPIC, "claude-x", 1000), "claude-x", prompt)
    assert not counted.fits(with_window(OPENAI, "gpt-4", 1000), "gpt-4", prompt)


@pytest.mark.parametrize(
    ("kind", "model", "detail", "least"),
    [
        # As the providers' documentation counts the largest picture.
        (ProviderKind.OPENAI, "gpt-4o", "high", 85 + 8 * 170),
        (ProviderKind.OPENAI, "gpt-4o", "low", 85),
        (ProviderKind.OPENAI, "gpt-4o-mini", "high", 2833 + 8 * 5667),
        (ProviderKind.OPENAI, "gpt-4o-mini-2024-07-18", "low", 2833),
        (ProviderKind.ANTHROPIC, "claude-x", "", 1600),
        (ProviderKind.ANTHROPIC, "claude-x", "low", 1600),
    ],
)
def test_pictures_count_by_the_providers_rule(kind: ProviderKind, model: str, detail: str, least: int) -> None:
    rules = rules_of(kind, model)
    assert least <= (rules.image_of_low_detail if detail == "low" else rules.image) <= 1.1 * least + 50
