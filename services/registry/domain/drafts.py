"""Deployments and variants as callers describe them. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeAlias

from completions.version import Version as Content
from services.registry.domain.deployments import LIVE, Bump, DeploymentKind, UnknownUsers
from services.registry.domain.execution import USUAL, Execution
from services.registry.domain.routing import RoutingDraft

_NOT_IN_SLUG: Final = re.compile(r"[^a-z0-9]+")
_MAX_DERIVED_SLUG: Final = 48


@dataclass(frozen=True, slots=True)
class CompletionDraft:
    """A version that is there, by uid or resource name, or a new one."""

    version: str
    new_version: Content | None
    max_retries: int
    attempt_timeout: timedelta | None
    prompt: str = ""
    """What the new version's messages are, as `welcome@3`, `welcome` or a resource name; empty for its own."""
    execution: Execution = USUAL


@dataclass(frozen=True, slots=True)
class RecommendationDraft:
    """A trained model, by uid, number or resource name."""

    model: str
    unknown_users: UnknownUsers


ServingDraft: TypeAlias = CompletionDraft | RecommendationDraft


@dataclass(frozen=True, slots=True)
class VariantDraft:
    """A variant to be made."""

    display_name: str
    notes: str
    active: bool | None
    weight: float | None
    serving: ServingDraft


@dataclass(frozen=True, slots=True)
class VariantChange:
    """What of a variant is to change; None leaves it as it is."""

    display_name: str | None = None
    notes: str | None = None
    active: bool | None = None
    weight: float | None = None
    serving: ServingDraft | None = None


@dataclass(frozen=True, slots=True)
class DeploymentChange:
    """What of a deployment is to change; None leaves it as it is."""

    display_name: str | None = None
    description: str | None = None
    salt: str | None = None
    is_protected: bool | None = None
    routing: RoutingDraft | None = None


@dataclass(frozen=True, slots=True)
class DeploymentDraft:
    """A deployment to be made."""

    slug: str
    kind: DeploymentKind
    display_name: str
    description: str
    salt: str
    variants: tuple[VariantDraft, ...]
    is_protected: bool = False
    routing: RoutingDraft | None = None
    """None: the weights alone."""


@dataclass(frozen=True, slots=True)
class Change:
    """How a caller wants a change done."""

    alias: str = LIVE
    """The one that the change begins from, and that moves."""
    etag: str = ""
    """The deployment's, as the caller knows it; empty for whatever it is now."""
    is_draft: bool = False
    """Make the revision, move nothing."""
    bump: Bump | None = None
    """None lets the change tell."""
    description: str = ""
    is_dry: bool = False
    """Check everything, write nothing."""
    retains_contract: bool = False
    """Let variables go that callers may still send; the alias's contract keeps them."""


def variant_slug(display_name: str, position: int, taken: Sequence[str]) -> str:
    """A slug for a variant: from its display name where that has letters, else from its position (1, 2, 3 …); made
    unique among `taken` with a number behind it."""
    plain = unicodedata.normalize("NFKD", display_name).encode("ascii", "ignore").decode().lower()
    slug = _NOT_IN_SLUG.sub("-", plain).strip("-")[:_MAX_DERIVED_SLUG].strip("-")
    if not any("a" <= character <= "z" for character in slug):
        slug = f"variant-{slug or position}"
    unique, count = slug, 1
    while unique in taken:
        count += 1
        unique = f"{slug}-{count}"
    return unique


def default_weight(kind: DeploymentKind, position: int) -> float:
    """The weight of a variant that was given none: a later completion moves nobody."""
    return 100.0 if position == 1 or kind is DeploymentKind.RECOMMENDATION else 0.0
