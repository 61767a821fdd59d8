"""What two contracts differ in."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is different. The first four break callers, the others are worth a warning."""

    PROPERTY_ADDED = "property_added"
    PROPERTY_REMOVED = "property_removed"
    TYPE_CHANGED = "type_changed"
    RESPONSE_FORMAT_CHANGED = "response_format_changed"

    TYPE_UNKNOWN = "type_unknown"
    """Neither a declaration nor the contract says the type, so that it is not checked."""
    ENUM_NARROWED = "enum_narrowed"
    ENUM_WIDENED = "enum_widened"
    """Only of answers: callers may be told a value that they do not know."""
    ENUM_DISJOINT = "enum_disjoint"
    """No value of the one is among the values of the other."""
    REQUIRED_ADDED = "required_added"
    REQUIRED_REMOVED = "required_removed"
    """Only of answers: callers may miss what they were always told."""
    MEMBERS_CHANGED = "members_changed"
    """The type of the members without a name of their own (`additionalProperties`)."""
    LIMIT_CHANGED = "limit_changed"
    """Bounds, lengths, patterns, conditions, or whether there may be members without a name of their own."""


class Verdict(StrEnum):
    """What a comparison comes to."""

    EQUAL = "equal"
    COMPATIBLE = "compatible"
    """With warnings."""
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Difference:
    """One place, with both sides in words."""

    path: str
    """`variables.trips[].city`, `response_format.schema.answer`; `[]` is every element, `.*` every other member."""
    kind: Kind
    before: str
    after: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that differs, sorted by path."""

    differences: tuple[Difference, ...] = ()
    """What breaks callers."""
    warnings: tuple[Difference, ...] = ()
    """What may surprise them."""

    @property
    def verdict(self) -> Verdict:
        """`different`, `compatible` (with warnings) or `equal`."""
        if self.differences:
            return Verdict.DIFFERENT
        return Verdict.COMPATIBLE if self.warnings else Verdict.EQUAL

    def without(self, removed: Collection[str]) -> Comparison:
        """What is left when those properties may go, because the contract keeps them.

        :param removed: paths, as :func:`completions.contract.removed_last_user` names them
        """
        kept = (
            one
            for one in self.differences
            if not (one.kind is Kind.PROPERTY_REMOVED and one.path in frozenset(removed))
        )
        return Comparison(tuple(kept), self.warnings)
