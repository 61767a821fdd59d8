"""Metrics: totals of series, put together into the rows that somebody asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from services.analytics.domain.request import Series
from services.analytics.domain.rollup import Totals
from services.analytics.domain.window import Span


class Dimension(Enum):
    """What a row is."""

    DEPLOYMENT = auto()
    VARIANT = auto()


@dataclass(slots=True)
class Row:
    """One group of requests, measured."""

    deployment: str = ""
    deployment_slug: str = ""
    variant: str = ""
    variant_slug: str = ""
    totals: Totals = field(default_factory=Totals)
    newest_us: int | None = None
    """When the request started that the variant's slug is of."""

    def add(self, series: Series, totals: Totals) -> None:
        self.totals.add(totals)
        at = totals.newest_us
        # On a tie the greater slug, so that the answer does not depend on the order of addition.
        if at is not None and (
            self.newest_us is None or (at, series.variant_slug) > (self.newest_us, self.variant_slug)
        ):
            self.newest_us, self.variant_slug = at, series.variant_slug


@dataclass(frozen=True, slots=True)
class Metrics:
    """What was measured in a window."""

    window: Span
    rows: tuple[Row, ...]
    """Most requests first; ties by deployment slug and variant."""
    total: Totals


def rows_of(measured: Mapping[Series, Totals], dimension: Dimension, *, uids: Mapping[str, str]) -> list[Row]:
    """Totals by group.

    A deployment is told by its slug, which is unique in a project and never changes: not every event knows its uid.

    :param measured: of one project
    :param uids: of deployments, by slug
    """
    rows: dict[tuple[str, str], Row] = {}
    for series, totals in measured.items():
        if not totals.requests:
            continue
        variant = series.variant if dimension is Dimension.VARIANT else ""
        row = rows.get((series.deployment_slug, variant))
        if row is None:
            row = rows[series.deployment_slug, variant] = Row(
                deployment=uids.get(series.deployment_slug, ""),
                deployment_slug=series.deployment_slug,
                variant=variant,
            )
        row.add(series, totals)
    if dimension is Dimension.DEPLOYMENT:
        for row in rows.values():
            row.variant_slug = ""
    return sorted(rows.values(), key=lambda row: (-row.totals.requests, row.deployment_slug, row.variant))


def total_of(rows: Iterable[Row]) -> Totals:
    """Over all rows."""
    total = Totals()
    for row in rows:
        total.add(row.totals)
    return total
