"""Estimates of tokens: never below what vocabularies count, and not far above."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from completions import tokens
from completions.chat import ImagePart, Message, Part, Role, TextPart, ToolCall
from completions.tokens import TokenRules
from tests.completions.texts import COUNTS, SAMPLES

RULES = TokenRules(image=1500, image_of_low_detail=85)
NOISY = {"Short English", "one letter", "blank lines"}
"""Too short, or too uniform, to be estimated closely."""


def user(text: str = "", *parts: Part) -> Message:
    return Message(Role.USER, text, parts)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_estimate_is_nowhere_below_the_count_of_any_vocabulary(name: str) -> None:
    assert tokens.of_text(SAMPLES[name]) >= max(COUNTS[name])


@pytest.mark.parametrize("name", sorted(SAMPLES.keys() - NOISY))
def test_the_estimate_is_below_twice_the_largest_count(name: str) -> None:
    assert tokens.of_text(SAMPLES[name]) < 2 * max(COUNTS[name])


def test_english_prose_is_estimated_closely() -> None:
    assert tokens.of_text(SAMPLES["English"]) < 1.3 * max(COUNTS["English"])


def test_a_long_text_is_weighed_by_its_parts() -> None:
    english, noise = SAMPLES["English"] * 20, SAMPLES["base64"] * 20
    together, apart = tokens.of_text(english + noise), tokens.of_text(english) + tokens.of_text(noise)
    assert together >= 20 * (max(COUNTS["English"]) + max(COUNTS["base64"]))
    assert together == pytest.approx(apart, rel=0.1)


@given(st.text(max_size=6000))
@settings(deadline=None)
def test_no_text_has_more_tokens_than_bytes(text: str) -> None:
    estimated, bytes_of_it = tokens.of_text(text), len(text.encode("utf-8", "surrogatepass"))
    assert 0 <= estimated <= bytes_of_it
    assert estimated > 0 or not text
    assert tokens.estimate([user(text)], RULES) <= tokens.most([user(text)], RULES)


def test_half_a_pair_of_surrogates_is_counted_too() -> None:
    assert tokens.most([user("\ud83d")], RULES) - tokens.most([user()], RULES) == 3
    assert tokens.of_text("\ud83d") > 0


def test_every_text_of_a_message_counts() -> None:
    empty = tokens.most([Message(Role.ASSISTANT)], RULES)
    full = Message(
        Role.ASSISTANT,
        parts=(TextPart("12345"), TextPart("678")),
        name="n" * 10,
        tool_calls=(ToolCall("i" * 20, "t" * 30, "a" * 30, "e" * 10),),
        tool_call_id="c" * 50,
        reasoning="r" * 60,
    )
    assert tokens.most([full], RULES) >= empty + 8 + 10 + 20 + 30 + 40 + 50 + 60
    assert tokens.most([Message(Role.USER, "é")], RULES) == empty + 2
    assert tokens.most([user()] * 3, RULES) > tokens.most([user()], RULES) + 2 * 5


def test_a_picture_counts_by_the_rule_and_not_by_its_address() -> None:
    address = "data:image/png;base64," + "A" * 100_000
    without = tokens.estimate([user()], RULES)
    assert tokens.estimate([user("", ImagePart(address))], RULES) == without + 1500
    assert tokens.most([user("", ImagePart(address, "low"), ImagePart(address, "high"))], RULES) == without + 85 + 1500


def test_tools_count_with_what_a_provider_says_of_them() -> None:
    assert tokens.of_tools("", RULES) == tokens.most_of_tools("") == 0
    text = '[{"type":"function","function":{"name":"weather","parameters":{}}}]'
    assert 346 + 16 < tokens.of_tools(text, RULES) < 500
    assert tokens.of_tools(text, RULES) <= tokens.most_of_tools(text)


def test_a_vocabulary_that_makes_more_tokens_is_scaled_for() -> None:
    scaled = TokenRules(1500, 85, scale=1.5)
    text = SAMPLES["German"]
    assert tokens.estimate([user(text)], scaled) >= tokens.estimate([user()], RULES) + 1.5 * tokens.of_text(text)


@dataclass
class Words:
    """A vocabulary of which every word is a token."""

    asked: list[str] = field(default_factory=list)

    def count(self, text: str) -> int:
        self.asked.append(text)
        return len(text.split())


def test_a_prompt_far_below_the_window_is_not_counted() -> None:
    counter = Words()
    assert tokens.fits([user("some words")], fixed=0, room=1000, rules=RULES, counter=counter)
    assert tokens.fits([user(SAMPLES["English"])], fixed=0, room=600, rules=RULES, counter=counter)
    assert counter.asked == []


def test_a_prompt_near_the_window_is_counted_where_it_can_be() -> None:
    text, counter = SAMPLES["English"], Words()
    assert not tokens.fits([user(text)], fixed=0, room=450, rules=RULES)
    assert tokens.fits([user(text)], fixed=0, room=450, rules=RULES, counter=counter)
    assert counter.asked == [text]
    assert not tokens.fits([user(text)], fixed=100, room=450, rules=RULES, counter=counter)


def test_what_else_is_sent_takes_room() -> None:
    assert tokens.fits([user("hello")], fixed=973, room=1000, rules=RULES)
    assert not tokens.fits([user("hello")], fixed=974, room=1000, rules=RULES)
    assert not tokens.fits([], fixed=1000, room=1000, rules=RULES)


def test_a_prompt_too_large_to_be_counted_quickly_is_estimated_only() -> None:
    counter = Words()
    assert not tokens.fits([user("word " * 200_000)], fixed=0, room=100, rules=RULES, counter=counter)
    assert counter.asked == []
