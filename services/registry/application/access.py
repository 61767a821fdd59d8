"""What every use case begins and ends with: whose project, which repeat, which change."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Generic, Protocol, TypeVar

from kit.errors import Denied, Invalid
from kit.paging import Cursor, Page, PageRequest, page, page_request, page_token
from services.registry.domain import (
    PLATFORM,
    PLATFORM_ADMIN,
    Caller,
    Project,
    Record,
    Thing,
    Version,
    changed_since,
    missing,
    violated,
)
from services.registry.ports import Reading, Repeat, Write, Writing

T = TypeVar("T")
S = TypeVar("S", bound=Thing)

_CURSOR: Final = (int, str)
MAX_ANSWER_BYTES: Final = 3 << 20
"""Of what is long in one page: an answer must pass through gRPC's usual limit of 4 MiB."""


@dataclass(frozen=True, slots=True)
class Written(Generic[T]):
    """What a write answers."""

    value: T
    sequence: int
    """The change that holds it, so that the caller can ask others for a state at least as new; 0 if nothing was
    written."""
    warnings: tuple[str, ...] = ()
    """What may surprise: what callers may notice of a change, or what could not be checked."""
    change_request: str = ""
    """The name of the change request that the write became; empty if it was done."""

    def warned(self, warnings: Sequence[str]) -> Written[T]:
        """With these warnings before its own."""
        return replace(self, warnings=(*warnings, *self.warnings))


@dataclass(frozen=True, slots=True)
class ListRequest:
    """A page that is asked for."""

    size: int
    token: str


async def find_project(tx: Reading, caller: Caller, segment: str) -> Project:
    """The project that a resource name begins with.

    :raises NotFound: `PROJECT_NOT_FOUND`; the same words for another tenant's project
    """
    project = await tx.project(segment)
    if project is None or not caller.sees(project):
        raise missing("project", f"projects/{segment}")
    return project


class Changing(Protocol):
    """A resource that callers change."""

    @property
    def uid(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def record(self) -> Record: ...


def check_etag(thing: Changing, etag: str) -> None:
    """Whether it is what the caller read.

    :param etag: as the caller knows it; empty for whatever it is now
    :raises Conflict: `ETAG_MISMATCH`
    """
    if etag and etag != thing.record.etag(thing.uid):
        raise changed_since(thing.name)


async def find_project_or_platform(tx: Reading, caller: Caller, segment: str) -> Project | None:
    """As :func:`find_project`; None for `projects/-`.

    :raises Denied: `SCOPE_MISSING` unless the caller may have the installation itself
    """
    if segment != PLATFORM:
        return await find_project(tx, caller, segment)
    if not caller.is_platform_admin:
        raise Denied(
            f"projects/{PLATFORM} needs a key with the scope {PLATFORM_ADMIN}",
            reason="SCOPE_MISSING",
            scope=PLATFORM_ADMIN,
        )
    return None


def caller_name(caller: Caller, project: Project) -> str:
    """The resource name of the caller's key, for the record of who did what in `project`."""
    return f"projects/{project.slug if caller.tenant else PLATFORM}/apiKeys/{caller.key}"


async def repeat_of(tx: Reading, write: Write, rpc: str, project: Project | None) -> str:
    """The uid of what an earlier request with the same id made; empty if there was none.

    :raises Invalid: `REQUEST_ID_REUSED` if that was another request
    """
    if not write.request_id:
        return ""
    found = await tx.repeat_of(tenant_of(project), rpc, write.request_id)
    if found is None:
        return ""
    if not hmac.compare_digest(found.fingerprint, write.fingerprint):
        raise reused()
    return found.resource


async def remember(tx: Writing, write: Write, rpc: str, project: Project | None, uid: str, now: datetime) -> None:
    """Keep what a request made, for its repeats."""
    if write.request_id:
        await tx.remember(tenant_of(project), rpc, write.request_id, Repeat(write.fingerprint, uid), now)


def segment_in(project: Project, collection: str, given: str) -> str:
    """The last segment of a name in this project; of any other, one that names nothing.

    :param given: such as `projects/shop/versions/ver_1`, or the last segment alone
    """
    *parent, last = given.split("/")
    names = [["projects", each, collection] for each in (project.slug, project.uid, str(project.number))]
    return last if parent in ([], *names) else ""


def reused() -> Invalid:
    """A request id came back with another request."""
    return violated("REQUEST_ID_REUSED", "request_id", "was used for another request; take a new one")


def tenant_of(project: Project | None) -> str:
    """What keeps the request ids of projects apart."""
    return "" if project is None else project.uid


def requested_page(request: ListRequest, subject: str) -> PageRequest:
    """What part of the list `subject` is asked for. All lists here are in the order of creation."""
    return page_request(request.size, request.token, subject=subject, shape=_CURSOR)


def bounded_page(found: Sequence[T], cursor: Cursor, subject: str, *, has_more: bool) -> Page[T]:
    """A page that may hold less than was asked for.

    :param cursor: of the last; of no meaning if there are no more
    """
    return Page(tuple(found), page_token(cursor, subject=subject) if has_more else "")


def found_page(found: list[S], request: PageRequest, subject: str) -> Page[S]:
    """The page that answers it."""
    return page(found, request, subject=subject, cursor=cursor_of)


def cursor_of(thing: Thing) -> Cursor:
    """Its place in the order of creation."""
    return (thing.created_in if isinstance(thing, Version) else thing.record.created_in, thing.uid)
