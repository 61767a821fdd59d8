"""Measuring a window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from services.analytics.application.projects import deployment_uids, find_project, of_deployment
from services.analytics.domain.metrics import Dimension, Metrics, rows_of, total_of
from services.analytics.domain.rollup import Grain
from services.analytics.domain.window import cover_of, measurable, window_of
from services.analytics.ports import Projects, Store


@dataclass(frozen=True, slots=True)
class Measuring:
    """Answers totals and quantiles."""

    store: Store
    projects: Projects
    request_retention_days: int
    now_us: Callable[[], int]

    async def query_metrics(
        self,
        project_name: str,
        *,
        tenant: str,
        deployment: str,
        start_us: int | None,
        end_us: int | None,
        dimension: Dimension,
    ) -> Metrics:
        """Totals in a window, exact, and latency quantiles within 1 %.

        :raises NotFound: `PROJECT_NOT_FOUND`, `DEPLOYMENT_NOT_FOUND`
        :raises Invalid: `WINDOW_EMPTY`
        :raises Unavailable: without the catalog or the database
        """
        view = self.projects.usable_view()
        project = find_project(view, project_name, tenant=tenant)
        now_us = self.now_us()
        # A day less than is kept: single requests leave day by day.
        since_us = Grain.DAY.floor(now_us) - (self.request_retention_days - 1) * Grain.DAY.us
        window = measurable(window_of(start_us, end_us, now_us=now_us), requests_since_us=since_us)
        async with self.store.reading() as reading:
            known = await reading.series(project.uid)
            wanted = of_deployment(view, project, known, deployment)
            measured = await reading.totals(wanted, cover_of(window))
        rows = rows_of(measured, dimension, uids=deployment_uids(view, project, known))
        return Metrics(window, tuple(rows), total_of(rows))
