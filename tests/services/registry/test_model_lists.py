from __future__ import annotations

import time

import pytest

from services.registry.domain import ProviderKind, ProviderModel, nearest, offers


def models(*names: str) -> tuple[ProviderModel, ...]:
    return tuple(ProviderModel(name) for name in names)


OFFERED = models(
    "gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "o3", "text-embedding-3-small", "whisper-1"
)


@pytest.mark.parametrize(
    ("wanted", "first"),
    [
        ("gpt4o", "gpt-4o"),
        ("gpt-4o-mni", "gpt-4o-mini"),
        ("GPT-4.1-Nano", "gpt-4.1-nano"),
        ("gpt-4o-mini-2024", "gpt-4o"),
        ("embedding-3-small", "text-embedding-3-small"),
    ],
)
def test_the_nearest_name_is_the_one_that_was_meant(wanted: str, first: str) -> None:
    found = nearest(wanted, OFFERED)

    assert first in found[:2]
    assert len(found) <= 5


def test_at_most_five_are_named_and_nothing_that_is_unlike() -> None:
    assert len(nearest("gpt-4o-2024", models(*(f"gpt-4o-{number}" for number in range(50))))) == 5
    assert nearest("zzzzzz", OFFERED) == ()
    assert nearest("small", ()) == ()


def test_ten_thousand_names_are_compared_within_a_moment() -> None:
    names = models(*(f"{'prefix' * 30}-{number:05}" for number in range(10_000)))
    begun = time.process_time()

    nearest("prefix" * 40, names)

    assert time.process_time() - begun < 2


def test_short_forms_that_a_provider_takes_are_offered() -> None:
    assert offers(ProviderKind.OLLAMA, models("llama3:latest"), "llama3")
    assert not offers(ProviderKind.OLLAMA, models("llama3:8b"), "llama3")
    assert not offers(ProviderKind.OLLAMA, models("llama3:latest"), "llama3:8b")
    assert offers(ProviderKind.OPENAI_COMPATIBLE, models("models/gemini-2.0-flash"), "gemini-2.0-flash")
    assert not offers(ProviderKind.OPENAI, models("models/gpt-4o", "gpt-4o:latest"), "gpt-4o")
