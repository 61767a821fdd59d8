"""Listing requests, one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kit.errors import Invalid, Violation
from kit.paging import Page, page_request, page_token
from services.analytics.application.projects import find_project, of_deployment, of_variant
from services.analytics.domain.request import Outcome
from services.analytics.domain.window import Span
from services.analytics.ports import LogEntry, LogQuery, Projects, Store

MAX_PAGE_BYTES: Final = 3 << 20
"""A page ends early here: many clients refuse an answer of more than 4 MiB."""
_BEGINNING_US: Final = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Listing:
    """Answers pages of requests."""

    store: Store
    projects: Projects
    now_us: Callable[[], int]

    async def list_logs(
        self,
        project_name: str,
        *,
        tenant: str,
        deployment: str,
        variant: str,
        outcome: Outcome | None,
        start_us: int | None,
        end_us: int | None,
        page_size: int,
        token: str,
    ) -> tuple[str, Page[LogEntry]]:
        """The project's slug, and a page of its requests, newest first.

        :raises NotFound: `PROJECT_NOT_FOUND`, `DEPLOYMENT_NOT_FOUND`, `VARIANT_NOT_FOUND`
        :raises Invalid: `WINDOW_EMPTY`, `PAGE_TOKEN_INVALID`
        :raises Unavailable: without the catalog or the database
        """
        view = self.projects.usable_view()
        project = find_project(view, project_name, tenant=tenant)
        subject = f"logs of {project.uid} {deployment} {variant} {outcome} {start_us} {end_us}"
        request = page_request(page_size, token, subject=subject, shape=(int, str))
        window = Span(
            _BEGINNING_US if start_us is None else start_us,
            self.now_us() if end_us is None else end_us,
        )
        if start_us is not None and window.start_us >= window.end_us:
            message = "must be before end_time"
            raise Invalid(
                f"start_time {message}", reason="WINDOW_EMPTY", violations=(Violation("start_time", message),)
            )
        async with self.store.reading() as reading:
            wanted = None
            if deployment or variant:
                known = await reading.series(project.uid)
                wanted = of_variant(view, project, of_deployment(view, project, known, deployment), variant)
            before = None if request.after is None else _cursor(request.after)
            query = LogQuery(project.uid, window, wanted, outcome, before)
            entries, has_more = await reading.logs(query, limit=request.size, max_bytes=MAX_PAGE_BYTES)
        following = page_token((entries[-1].start_us, entries[-1].request_id), subject=subject) if has_more else ""
        return project.slug, Page(tuple(entries), following)


def _cursor(after: tuple[int | str, ...]) -> tuple[int, str]:
    start_us, request_id = after
    return int(start_us), str(request_id)
