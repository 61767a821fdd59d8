"""What Anthropic's models take, by generation: `claude-sonnet-4-5-20250929` is of generation 4.5. Pure.

Source: the migration guides of each generation (platform.claude.com/docs). A name without a generation, such as that of
another vendor's model behind the same contract, gets what the contract always had.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_GENERATION: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")
_MIN_BUDGET_TOKENS: Final = 1024
_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 24_576, "max": 24_576}
"""Tokens to think with where the contract has no word for an effort."""
_USUAL_BUDGET: Final = 8192
_ANSWER_TOKENS: Final = 4096
"""What is left for the answer behind a budget larger than the usual output."""


class Model(NamedTuple):
    """What a model takes."""

    output_tokens: int
    """`max_tokens` where a version does not say: the contract wants one. What every model of the generation can."""
    takes_effort: bool
    """`output_config.effort` and thinking that adapts."""
    takes_budget: bool
    """Thinking within a number of tokens; refused by what came before it was there."""
    takes_sampling: bool
    """`temperature`, `top_p`, `top_k`."""
    takes_both: bool
    """`temperature` and `top_p` together."""
    takes_forced_tools: bool
    takes_schema: bool
    """`output_config.format`."""
    thinks_unasked: bool
    continues: bool
    """An answer whose beginning the conversation ends with."""


def model_of(name: str) -> Model:
    """What the model of this name takes."""
    found = _GENERATION.search(name.lower())
    if found is None:
        return Model(4096, False, True, True, True, True, False, False, True)
    generation = int(found[1]), int(found[2] or 0)
    return Model(
        output_tokens=32_000 if generation >= (3, 7) else 8192 if generation >= (3, 5) else 4096,
        takes_effort=generation >= (4, 6),
        takes_budget=(3, 7) <= generation < (4, 7),
        takes_sampling=generation < (4, 7),
        takes_both=generation < (4, 1),
        takes_forced_tools=generation < (5, 5),
        takes_schema=generation >= (4, 5),
        thinks_unasked=generation >= (5, 0),
        continues=generation < (4, 6),
    )


class Thinking(NamedTuple):
    """How a model is asked to think."""

    max_tokens: int
    """Of thoughts and answer together."""
    effort: str | None = None
    """`output_config.effort`."""
    adapts: bool = False
    budget_tokens: int | None = None
    """At least 1024 and less than `max_tokens`."""


def thinking_of(model: Model, *, effort: str | None, budget: int | None, max_tokens: int | None) -> Thinking:
    """Translate a version's reasoning settings. What cannot be had within `max_tokens` is not asked for.

    :param effort: OpenAI's words and the provider's own; `none` is no thinking, as far as the model can
    :param budget: in tokens; 0 is no thinking
    :param max_tokens: what the version says; None for nothing
    """
    limit = max_tokens or model.output_tokens
    if effort == "none" or budget == 0:
        return Thinking(limit, effort="low" if model.thinks_unasked else None)
    if (effort is None and budget is None) or not (model.takes_budget or model.takes_effort):
        return Thinking(limit)
    if budget is not None and model.takes_budget:
        wanted = max(_MIN_BUDGET_TOKENS, budget)
        if max_tokens is None:
            limit = max(limit, wanted + _ANSWER_TOKENS)
        wanted = min(wanted, limit - 1)
        word = _effort(effort, model) if model.takes_effort and effort is not None else None
        return Thinking(limit, effort=word, budget_tokens=wanted if wanted >= _MIN_BUDGET_TOKENS else None)
    if model.takes_effort:
        return Thinking(limit, effort=None if effort is None else _effort(effort, model), adapts=True)
    wanted = min(_BUDGETS.get(effort or "", _USUAL_BUDGET), limit // 2)
    return Thinking(limit, budget_tokens=wanted if wanted >= _MIN_BUDGET_TOKENS else None)


def _effort(word: str, model: Model) -> str:
    if word == "minimal":
        return "low"
    # The first generation with efforts has no word between high and max.
    return "high" if word == "xhigh" and model.takes_budget else word
