from __future__ import annotations

import pytest
import typer

from cli.trying import set_on, told
from cli.words import OutputPolicy
from turnout.registry.v1 import deployment_pb2 as pb


def completion() -> pb.CompletionVariant:
    made = pb.CompletionVariant(max_retries=3, output_policy=pb.OUTPUT_POLICY_FAIL)
    made.fallbacks.add(provider="a", model="x", max_retries=2)
    made.fallbacks.add(provider="b", model="y")
    return made


def test_what_is_not_given_stays() -> None:
    made = completion()
    set_on(made, retries=None, fallbacks=None, policy=None)

    assert made == completion()


def test_fallbacks_are_replaced_in_order_and_one_that_stays_keeps_what_no_option_says() -> None:
    made = completion()
    set_on(made, retries=0, fallbacks=["c/meta/llama-3", "a/x"], policy=OutputPolicy.MARK)

    assert [(each.provider, each.model, each.max_retries) for each in made.fallbacks] == [
        ("c", "meta/llama-3", 0),
        ("a", "x", 2),
    ]
    assert (made.max_retries, made.output_policy) == (0, pb.OUTPUT_POLICY_MARK)
    assert told(made) == "c/meta/llama-3, a/x"


def test_none_at_all_takes_them_away() -> None:
    made = completion()
    set_on(made, retries=None, fallbacks=[], policy=None)

    assert (list(made.fallbacks), told(made)) == ([], "–")


@pytest.mark.parametrize("text", ["a", "a/", "/x", ""])
def test_a_fallback_without_provider_or_model_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        set_on(completion(), retries=None, fallbacks=[text], policy=None)
