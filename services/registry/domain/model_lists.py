"""What providers offer, as they say themselves, and whether a wanted model is among it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import SequenceMatcher
from typing import Final

from services.registry.domain.providers import ProviderKind

MAX_MODELS: Final = 10_000
"""Of one provider."""
_NEAREST: Final = 5
_ALIKE: Final = 0.5
"""Ratio of characters in common below which a name is no help."""
_MOST_COMPARED: Final = 1000
"""Names that are compared letter by letter: about a tenth of a millisecond each."""
_COMPARED_CHARACTERS: Final = 100


@dataclass(frozen=True, slots=True)
class ProviderModel:
    """A model that a provider offers."""

    model: str
    """The provider's name for it."""
    display_name: str = ""
    created_at: datetime | None = None
    context_window_tokens: int = 0
    """0 if the provider does not say."""


@dataclass(frozen=True, slots=True)
class ModelList:
    """All that a provider offers."""

    models: tuple[ProviderModel, ...]
    """By name, each once."""
    retrieved_at: datetime


@dataclass(frozen=True, slots=True)
class CheckFailure:
    """Why a provider's list could not be read."""

    reason: str
    """UPPER_SNAKE, stable."""
    sentence: str
    """What is wrong and what to do; nothing of the credential, nor of the provider's own words."""


def offers(kind: ProviderKind, models: Sequence[ProviderModel], wanted: str) -> bool:
    """Whether the provider takes this name: one of its list, or a short form of one that it takes as well."""
    names = {wanted}
    if kind is ProviderKind.OLLAMA and ":" not in wanted.rpartition("/")[2]:
        # Ollama's own default.
        names.add(f"{wanted}:latest")
    if kind is ProviderKind.OPENAI_COMPATIBLE:
        # Google lists its models as resources and takes their ids.
        names.add(f"models/{wanted}")
    return any(each.model in names for each in models)


def nearest(wanted: str, models: Sequence[ProviderModel]) -> tuple[str, ...]:
    """The names most like `wanted`, the most alike first, at most five: those that hold it or that it holds, then those
    with most characters in common."""
    given = wanted.casefold()[:_COMPARED_CHARACTERS]
    tokens = _bigrams(given)
    # A cheap measure first: letter by letter, ten thousand names would take seconds.
    likely = sorted(models, key=lambda each: (-len(tokens & _bigrams(each.model.casefold())), each.model))
    matcher: SequenceMatcher[str] = SequenceMatcher(autojunk=False)
    matcher.set_seq2(given)
    ranked = []
    for each in likely[:_MOST_COMPARED]:
        name = each.model.casefold()[:_COMPARED_CHARACTERS]
        matcher.set_seq1(name)
        within = bool(given) and (given in name or name in given)
        if within or (matcher.quick_ratio() >= _ALIKE and matcher.ratio() >= _ALIKE):
            ranked.append((not within, -matcher.ratio(), each.model))
    return tuple(name for *_, name in sorted(ranked)[:_NEAREST])


def _bigrams(text: str) -> set[str]:
    return {text[at : at + 2] for at in range(len(text) - 1)}
