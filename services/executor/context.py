"""Context windows: how much a provider's model can read, and whether a prompt fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from catalog import view
from catalog.view import ProviderKind
from completions import tokens, vocabulary
from completions.chat import Message
from completions.tokens import Counter, TokenRules

_OPENAI: Final = TokenRules(image=1_500, image_of_low_detail=85)
"""GPT-4o: 85, and 170 for each of at most 8 squares."""
_OPENAI_SMALL: Final = TokenRules(image=50_000, image_of_low_detail=2_850)
"""gpt-4o-mini: 2,833, and 5,667 for each of at most 8 squares."""
_RULES: Final = {
    ProviderKind.OPENAI: _OPENAI,
    # Servers of open models: up to 4 squares of 400 tokens for most, and 1,300 for a picture of a million pixels.
    ProviderKind.OPENAI_COMPATIBLE: TokenRules(image=1_700, image_of_low_detail=1_700, scale=1.1),
    # Width times height by 750, of pictures that are scaled to 1,568 a side. Their vocabulary is not published: it
    # makes up to a third more tokens than OpenAI's.
    ProviderKind.ANTHROPIC: TokenRules(image=1_650, image_of_low_detail=1_650, scale=1.35),
    ProviderKind.OLLAMA: TokenRules(image=1_700, image_of_low_detail=1_700, scale=1.1),
}


class ModelTable(Protocol):
    """Knows models."""

    def context_window_tokens(self, provider: view.Provider, model: str) -> int | None:
        """How much a model can read and write together; None if unknown."""
        ...


class ContextWindows:
    """The windows of providers' models, and how prompts fill them.

    :param counter: of the vocabulary of OpenAI's models, if the installation has it
    """

    def __init__(self, models: ModelTable, counter: Counter | None = None) -> None:
        self._models = models
        self._counter = counter

    def context_window_tokens(self, provider: view.Provider, model: str) -> int | None:
        """How much a model can read and write together: what the provider's settings say of it, else the list's; None
        if neither does."""
        return self._models.context_window_tokens(provider, model)

    def fits(
        self,
        provider: view.Provider,
        model: str,
        messages: Sequence[Message],
        *,
        tools_text: str = "",
        answer_tokens: int = 0,
    ) -> bool:
        """Whether a prompt surely fits; so does any where the window is not known.

        :param tools_text: the JSON of the tools and of the response format; empty without
        :param answer_tokens: that the version lets the model write: providers refuse a prompt that leaves no room
        """
        window = self.context_window_tokens(provider, model)
        if window is None:
            return True
        rules = rules_of(provider.kind, model)
        counter = self._counter if provider.kind is ProviderKind.OPENAI and vocabulary.speaks(model) else None
        # A bound that needs no look at the tools' text decides most calls.
        fixed = tokens.most_of_tools(tools_text) + answer_tokens
        if tokens.most(messages, rules) + fixed <= window:
            return True
        fixed = tokens.of_tools(tools_text, rules) + answer_tokens
        return tokens.fits(messages, fixed=fixed, room=window, rules=rules, counter=counter)


def rules_of(kind: ProviderKind, model: str) -> TokenRules:
    """A provider's rule of thumb for a model, as its documentation has it in 2026."""
    if kind is ProviderKind.OPENAI and model.startswith("gpt-4o-mini"):
        return _OPENAI_SMALL
    return _RULES[kind]
