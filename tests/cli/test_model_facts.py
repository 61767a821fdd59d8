from __future__ import annotations

import pytest
import typer

from cli.model_facts import changed, tell
from turnout.registry.v1 import provider_pb2 as pb

KNOWN = [
    pb.ModelFacts(model="a", input_usd_micros_per_million=5, cached_input_usd_micros_per_million=1),
    pb.ModelFacts(model="b", context_window_tokens=8),
]


def after(
    *,
    prices: list[str] | None = None,
    windows: list[str] | None = None,
    outputs: list[str] | None = None,
    forgotten: list[str] | None = None,
) -> list[pb.ModelFacts]:
    return changed(KNOWN, prices=prices, windows=windows, outputs=outputs, forgotten=forgotten)


def test_prices_are_exact_and_take_the_place_of_all_that_was_known_of_them() -> None:
    a, b, new = after(prices=["a=2.5/10", "b=0.15/0.075/0.6", "x=y=0.000001/0"])

    assert a == pb.ModelFacts(
        model="a", input_usd_micros_per_million=2_500_000, output_usd_micros_per_million=10_000_000
    )
    assert b == pb.ModelFacts(
        model="b",
        input_usd_micros_per_million=150_000,
        cached_input_usd_micros_per_million=75_000,
        output_usd_micros_per_million=600_000,
        context_window_tokens=8,
    )
    assert new == pb.ModelFacts(model="x=y", input_usd_micros_per_million=1, output_usd_micros_per_million=0)


def test_a_window_is_set_and_a_model_forgotten_without_touching_others() -> None:
    assert after(windows=["a=128000"], forgotten=["b"]) == [
        pb.ModelFacts(
            model="a",
            input_usd_micros_per_million=5,
            cached_input_usd_micros_per_million=1,
            context_window_tokens=128000,
        )
    ]


@pytest.mark.parametrize(
    "price",
    ["a", "=1/2", "a=", "a=1", "a=1/2/3/4", "a=x/2", "a=-1/2", "a=nan/1", "a=inf/1", "a=1e9/1", "a=0.0000001/1"],
)
def test_a_price_that_says_nothing_is_refused(price: str) -> None:
    with pytest.raises(typer.BadParameter):
        after(prices=[price])


@pytest.mark.parametrize("window", ["a", "=1", "a=", "a=-1", "a=1.5", "a=x", "a=²", "a=1234567890123456"])
def test_a_window_that_says_nothing_is_refused(window: str) -> None:
    with pytest.raises(typer.BadParameter):
        after(windows=[window])


def test_what_a_model_takes_is_set_beside_what_is_known() -> None:
    _, b, new = after(outputs=["b=json_object", "x=y=text"])

    taken = pb.ModelFacts(model="b", context_window_tokens=8, structured_output=pb.STRUCTURED_OUTPUT_JSON_OBJECT)
    assert b == taken
    assert new == pb.ModelFacts(model="x=y", structured_output=pb.STRUCTURED_OUTPUT_TEXT)


@pytest.mark.parametrize("text", ["a", "=text", "a=", "a=xml", "a=TEXT"])
def test_what_says_nothing_of_what_a_model_takes_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="MODEL=json_object"):
        after(outputs=[text])


def test_what_is_not_known_cannot_be_forgotten() -> None:
    with pytest.raises(typer.BadParameter):
        after(forgotten=["c"])


def test_a_price_of_nothing_is_shown_and_an_unknown_one_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    facts = pb.ModelFacts(model="m", input_usd_micros_per_million=0, context_window_tokens=128000)
    tell([facts, pb.ModelFacts(model="n", structured_output=pb.STRUCTURED_OUTPUT_TEXT)])

    assert [line.split() for line in capsys.readouterr().out.splitlines()[1:]] == [
        ["m", "$0", "–", "–", "128,000", "–"],
        ["n", "–", "–", "–", "–", "text"],
    ]
