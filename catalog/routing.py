"""How the calls of a revision find their variants, as the registry wrote it."""

from __future__ import annotations

from dataclasses import dataclass

from catalog.conditions import Field


@dataclass(frozen=True, slots=True)
class Share:
    """A variant's part in a rule's split."""

    variant: str
    """uid."""
    weight: float


@dataclass(frozen=True, slots=True)
class Rule:
    """Sends calls whose context fulfils a condition to a split of variants."""

    uid: str
    display_name: str
    condition: str
    """CEL over the fields."""
    active: bool
    shares: tuple[Share, ...]
    """One alone is all of it."""


@dataclass(frozen=True, slots=True)
class Routing:
    """Rules, asked in order; and the share of units that they, and the variants' weights, are for."""

    fields: tuple[Field, ...] = ()
    rules: tuple[Rule, ...] = ()
    coverage: float = 1.0
    """0 to 1."""
    baseline: str = ""
    """uid of the variant that serves the units outside coverage; empty if there are none."""


WEIGHTS_ALONE = Routing()
"""That of a revision without rules and with full coverage."""
