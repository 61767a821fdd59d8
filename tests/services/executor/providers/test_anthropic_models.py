from __future__ import annotations

import pytest

from services.executor.providers.anthropic_models import Thinking, model_of, thinking_of

OLD, MIDDLE, NEW, FORCED, OTHER = map(
    model_of, ("claude-sonnet-4-5-20250929", "claude-opus-4-6", "claude-opus-4-8", "claude-sonnet-5-5", "glm-5")
)


@pytest.mark.parametrize(
    ("name", "output_tokens", "takes_effort", "takes_sampling", "takes_schema", "takes_forced_tools"),
    [
        ("claude-3-opus-20240229", 4096, False, True, False, True),
        ("claude-3-5-haiku-latest", 8192, False, True, False, True),
        ("claude-3-7-sonnet-20250219", 32_000, False, True, False, True),
        ("claude-opus-4-20250514", 32_000, False, True, False, True),
        ("claude-opus-4-1-20250805", 32_000, False, True, False, True),
        ("claude-haiku-4-5", 32_000, False, True, True, True),
        ("anthropic/claude-sonnet-4.6", 32_000, True, True, True, True),
        ("claude-opus-4-7", 32_000, True, False, True, True),
        ("us.anthropic.claude-sonnet-5", 32_000, True, False, True, True),
        ("claude-opus-5-5", 32_000, True, False, True, False),
        ("claude-opus-12-1", 32_000, True, False, True, False),
        ("claude-mythos-preview", 4096, False, True, False, True),
        ("glm-5", 4096, False, True, False, True),
    ],
)
def test_what_a_model_takes_goes_by_its_generation(
    name: str,
    output_tokens: int,
    takes_effort: bool,
    takes_sampling: bool,
    takes_schema: bool,
    takes_forced_tools: bool,
) -> None:
    model = model_of(name)
    assert model.output_tokens == output_tokens
    assert (model.takes_effort, model.takes_sampling) == (takes_effort, takes_sampling)
    assert (model.takes_schema, model.takes_forced_tools) == (takes_schema, takes_forced_tools)


def test_a_model_that_is_not_asked_to_think_is_told_nothing() -> None:
    for model in (OLD, MIDDLE, NEW, FORCED):
        assert thinking_of(model, effort=None, budget=None, max_tokens=None) == Thinking(32_000)
    assert thinking_of(OTHER, effort=None, budget=None, max_tokens=77) == Thinking(77)


@pytest.mark.parametrize(
    ("budget", "max_tokens", "thinking"),
    [
        (5000, None, Thinking(32_000, budget_tokens=5000)),
        (1, None, Thinking(32_000, budget_tokens=1024)),
        (40_000, None, Thinking(44_096, budget_tokens=40_000)),
        (5000, 2000, Thinking(2000, budget_tokens=1999)),
        (5000, 1025, Thinking(1025, budget_tokens=1024)),
        (5000, 1024, Thinking(1024)),
        (0, None, Thinking(32_000)),
    ],
)
def test_a_budget_is_at_least_1024_and_less_than_the_whole(
    budget: int, max_tokens: int | None, thinking: Thinking
) -> None:
    assert thinking_of(OLD, effort=None, budget=budget, max_tokens=max_tokens) == thinking


@pytest.mark.parametrize(
    ("effort", "max_tokens", "thinking"),
    [
        ("low", None, Thinking(32_000, budget_tokens=2048)),
        ("high", None, Thinking(32_000, budget_tokens=16_000)),
        ("medium", 4096, Thinking(4096, budget_tokens=2048)),
        ("medium", 2000, Thinking(2000)),
        ("immense", None, Thinking(32_000, budget_tokens=8192)),
        ("none", None, Thinking(32_000)),
    ],
)
def test_an_effort_is_a_budget_where_there_is_no_word_for_it(
    effort: str, max_tokens: int | None, thinking: Thinking
) -> None:
    assert thinking_of(OLD, effort=effort, budget=None, max_tokens=max_tokens) == thinking


def test_newer_models_think_as_much_as_they_see_fit() -> None:
    assert thinking_of(NEW, effort="xhigh", budget=None, max_tokens=50) == Thinking(50, effort="xhigh", adapts=True)
    assert thinking_of(NEW, effort="minimal", budget=None, max_tokens=50) == Thinking(50, effort="low", adapts=True)
    assert thinking_of(NEW, effort=None, budget=9000, max_tokens=50) == Thinking(50, adapts=True)
    assert thinking_of(NEW, effort="none", budget=None, max_tokens=50) == Thinking(50)
    # What always thinks can only be asked to think little.
    assert thinking_of(FORCED, effort="none", budget=None, max_tokens=50) == Thinking(50, effort="low")
    assert thinking_of(FORCED, effort=None, budget=0, max_tokens=50) == Thinking(50, effort="low")


def test_between_the_generations_either_is_taken() -> None:
    assert thinking_of(MIDDLE, effort="xhigh", budget=None, max_tokens=None) == Thinking(
        32_000, effort="high", adapts=True
    )
    assert thinking_of(MIDDLE, effort="low", budget=3000, max_tokens=None) == Thinking(
        32_000, effort="low", budget_tokens=3000
    )


@pytest.mark.parametrize(
    ("name", "thinks"),
    [
        ("claude-2.1", False),
        ("claude-3-opus-20240229", False),
        ("claude-3-5-sonnet-20241022", False),
        ("claude-3-5-haiku-latest", False),
        ("us.anthropic.claude-3-7-sonnet-20250219-v1:0", True),
        ("claude-opus-4-20250514", True),
        ("claude-haiku-4-5", True),
        ("claude-opus-4-6", True),
        # Its contract always had it, whoever it is.
        ("glm-5", True),
    ],
)
def test_thinking_begins_with_claude_3_7(name: str, thinks: bool) -> None:
    model = model_of(name)
    for effort, budget in (("medium", None), (None, 5000), ("medium", 5000)):
        thinking = thinking_of(model, effort=effort, budget=budget, max_tokens=20_000)
        assert (thinking != Thinking(20_000)) is thinks
