"""The optional vocabulary of OpenAI's models, where it is installed."""

from __future__ import annotations

import warnings

import pytest

from completions import vocabulary
from tests.completions.texts import COUNTS, SAMPLES


@pytest.mark.parametrize("model", ["gpt-4o-mini", "gpt-5.2", "o3", "ft:gpt-4.1-mini:acme::1", "chatgpt-4o-latest"])
def test_openais_models_speak_it(model: str) -> None:
    assert vocabulary.speaks(model)


@pytest.mark.parametrize("model", ["gpt-4", "gpt-3.5-turbo", "claude-sonnet-4-5", "llama3.2", "openai/gpt-4o"])
def test_others_do_not(model: str) -> None:
    assert not vocabulary.speaks(model)


@pytest.fixture(scope="module")
def loaded() -> vocabulary.Vocabulary:
    if not vocabulary.is_installed():
        pytest.skip("bpe-openai is not installed")
    with warnings.catch_warnings():
        # The library opens its tables in a way that Python deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        return vocabulary.load()


@pytest.mark.parametrize("name", SAMPLES)
def test_it_counts_exactly(loaded: vocabulary.Vocabulary, name: str) -> None:
    assert loaded.count(SAMPLES[name]) == COUNTS[name][1]


def test_a_long_text_is_counted_in_pieces(loaded: vocabulary.Vocabulary) -> None:
    once, often = loaded.count("one two three "), loaded.count("one two three " * 50_000)
    assert often == pytest.approx(once * 50_000, abs=50_000 + 11)
    assert loaded.count("<|endoftext|>") > 1


def test_half_a_pair_of_surrogates_is_no_error(loaded: vocabulary.Vocabulary) -> None:
    assert loaded.count("\ud83d") >= 1
