"""How hard a variant tries, as options say it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, TypeAlias

import typer

from cli.words import OUTPUT_POLICIES, OutputPolicy
from turnout.registry.v1 import deployment_pb2 as pb

_PANEL = "When a call fails"
USUAL_RETRIES: Final = 2
"""Of a new variant, where nothing is said."""

Retries: TypeAlias = Annotated[
    int | None,
    typer.Option(min=0, max=10, help="How often a failed attempt is repeated.", rich_help_panel=_PANEL),
]
Fallbacks: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--fallback",
        help="provider/model: where it runs when all attempts have failed; repeat for several, in order.",
        rich_help_panel=_PANEL,
    ),
]
Policy: TypeAlias = Annotated[
    OutputPolicy | None,
    typer.Option(
        help="What becomes of an answer that does not keep to its JSON schema. Default: mark.", rich_help_panel=_PANEL
    ),
]
NoFallbacks: TypeAlias = Annotated[
    bool, typer.Option("--no-fallbacks", help="Take all fallbacks away.", rich_help_panel=_PANEL)
]


def set_on(
    completion: pb.CompletionVariant,
    *,
    retries: int | None,
    fallbacks: Sequence[str] | None,
    policy: OutputPolicy | None,
) -> None:
    """Set what is given; None stays as it is.

    :param fallbacks: in the place of those that it has
    :raises typer.BadParameter: for a fallback that is not `provider/model`
    """
    if retries is not None:
        completion.max_retries = retries
    if policy is not None:
        completion.output_policy = OUTPUT_POLICIES[policy]
    if fallbacks is None:
        return
    former = {(each.provider, each.model): each for each in completion.fallbacks}
    wanted = []
    for text in fallbacks:
        # Models may have slashes in their names; providers have none.
        provider, _, model = text.partition("/")
        if not provider or not model:
            raise typer.BadParameter(f"a fallback is written provider/model, not {text!r}", param_hint="--fallback")
        # What no option can say of one that stays, such as its parameters, stays too.
        wanted.append(former.get((provider, model), pb.Fallback(provider=provider, model=model)))
    kept = pb.CompletionVariant(fallbacks=wanted)
    del completion.fallbacks[:]
    completion.fallbacks.extend(kept.fallbacks)


def told(completion: pb.CompletionVariant) -> str:
    """Where it falls back to, in a table's cell."""
    return ", ".join(f"{each.provider}/{each.model}" for each in completion.fallbacks) or "–"
