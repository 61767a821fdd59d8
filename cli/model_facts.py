"""What is known of a provider's models, as options say it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, TypeAlias

import typer

from cli import output, words
from turnout.registry.v1 import provider_pb2 as pb

_MICROS: Final = 1_000_000
_MAX_USD: Final = 1_000_000
_OUTPUT_FORM: Final = "MODEL=json_schema, MODEL=json_object or MODEL=text"

Prices: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--price",
        help="MODEL=INPUT/OUTPUT, or MODEL=INPUT/CACHED/OUTPUT: US dollars for a million tokens read, read from the "
        "provider's cache, and written; goes before the price table. Repeat for several.",
    ),
]
Windows: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--context-window",
        help="MODEL=TOKENS: how much it can read and write together. Repeat for several.",
    ),
]
Outputs: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--structured-output",
        help="MODEL=json_object or MODEL=text (MODEL=json_schema): what it takes of a response format, where that is "
        "no JSON schema; the rest is told in words. For providers of OpenAI's kind. Repeat for several.",
    ),
]
Forgotten: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--forget", help="MODEL: from now on only what the price table knows. Repeat for several."),
]


def changed(
    known: Iterable[pb.ModelFacts],
    *,
    prices: Sequence[str] | None,
    windows: Sequence[str] | None,
    outputs: Sequence[str] | None = None,
    forgotten: Sequence[str] | None,
) -> list[pb.ModelFacts]:
    """What is known then.

    :raises typer.BadParameter: for a text that says nothing, or a model to be forgotten of which nothing is known
    """
    facts = {each.model: deepcopy(each) for each in known}
    for model in forgotten or ():
        if facts.pop(model, None) is None:
            raise typer.BadParameter(f"nothing is known of {model!r} here", param_hint="--forget")
    for text in prices or ():
        model, figures = _split(text, "--price", "MODEL=INPUT/OUTPUT")
        each = facts.setdefault(model, pb.ModelFacts(model=model))
        amounts = [_micros(figure, text) for figure in figures.split("/")]
        if len(amounts) not in (2, 3):
            raise _bad(text, "--price", "MODEL=INPUT/OUTPUT or MODEL=INPUT/CACHED/OUTPUT")
        each.input_usd_micros_per_million, each.output_usd_micros_per_million = amounts[0], amounts[-1]
        each.ClearField("cached_input_usd_micros_per_million")
        if len(amounts) == 3:
            each.cached_input_usd_micros_per_million = amounts[1]
    for text in windows or ():
        model, tokens = _split(text, "--context-window", "MODEL=TOKENS")
        if not (tokens.isascii() and tokens.isdigit()) or len(tokens) > 15:
            raise _bad(text, "--context-window", "MODEL=TOKENS")
        facts.setdefault(model, pb.ModelFacts(model=model)).context_window_tokens = int(tokens)
    for text in outputs or ():
        model, word = _split(text, "--structured-output", _OUTPUT_FORM)
        if word not in words.STRUCTURED_OUTPUTS:
            raise _bad(text, "--structured-output", _OUTPUT_FORM)
        each = facts.setdefault(model, pb.ModelFacts(model=model))
        each.structured_output = words.STRUCTURED_OUTPUTS[words.StructuredOutput(word)]
    return list(facts.values())


def tell(facts: Iterable[pb.ModelFacts]) -> None:
    """A table."""
    output.table(
        ["model", "input", "cached", "output", "context", "structured output"],
        [
            (
                each.model,
                *(
                    _dollars(each, name)
                    for name in (
                        "input_usd_micros_per_million",
                        "cached_input_usd_micros_per_million",
                        "output_usd_micros_per_million",
                    )
                ),
                f"{each.context_window_tokens:,}" if each.context_window_tokens else "–",
                words.word(words.STRUCTURED_OUTPUTS, each.structured_output) if each.structured_output else "–",
            )
            for each in facts
        ],
        numbers=["input", "cached", "output", "context"],
    )


def _split(text: str, option: str, form: str) -> tuple[str, str]:
    # A model may have = in its name; figures have none.
    model, equals, figures = text.rpartition("=")
    if not equals or not model:
        raise _bad(text, option, form)
    return model, figures


def _micros(figure: str, text: str) -> int:
    try:
        amount = Decimal(figure)
    except InvalidOperation:
        raise _bad(text, "--price", "MODEL=INPUT/OUTPUT, in US dollars such as 2.5/10") from None
    if not amount.is_finite() or not 0 <= amount <= _MAX_USD or amount * _MICROS % 1:
        raise _bad(text, "--price", f"with amounts from 0 to {_MAX_USD} and at most six decimals")
    return int(amount * _MICROS)


def _bad(text: str, option: str, form: str) -> typer.BadParameter:
    return typer.BadParameter(f"{text!r} must be written {form}", param_hint=option)


def _dollars(facts: pb.ModelFacts, name: str) -> str:
    known = {descriptor.name: value for descriptor, value in facts.ListFields()}
    return output.micros(known[name]) if name in known else "–"
