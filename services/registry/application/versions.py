"""Use cases of versions."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from completions import schema
from completions.contract import Contract, InputCheck, contract_of
from completions.version import Version as Content
from completions.version import validate, version_id
from kit.errors import Invalid, Violation
from kit.json import dump
from kit.paging import Page
from services.registry.application.access import (
    MAX_ANSWER_BYTES,
    ListRequest,
    Written,
    bounded_page,
    find_project,
    requested_page,
)
from services.registry.application.archives import archived
from services.registry.application.provider_models import ModelChecks, Wanted
from services.registry.domain import Caller, Project, Version, missing, violated
from services.registry.ports import Clock, Noting, Store, Writing

MAX_VERSION_BYTES = 2 << 20
"""Every service holds every version in use and gets it in one message."""
_JSON_FIELD = re.compile(r"^(tools|tool_choice|response_format|variables_schema|parameters\.extra)(?=$|[.\[])")
_VARIABLES = re.compile(r"^variables(?=$|[.\[])")
_TOOL_NAME = re.compile(r"(\.tool_calls\[\d+\])\.name$")


@dataclass(frozen=True, slots=True)
class Versions:
    """The completion configurations."""

    store: Store
    now: Clock
    model_checks: ModelChecks
    expiry: timedelta | None = None
    """How long a version is kept that no revision has and nobody puts or runs; None: for ever."""

    async def put_version(
        self, caller: Caller, project_segment: str, content: Content, *, is_dry: bool, skip_model_check: bool = False
    ) -> Written[Version]:
        """Idempotent by content.

        :param skip_model_check: take a model that the provider does not list
        :raises Invalid: `MODEL_UNKNOWN`, and as :func:`completed` and :func:`put`
        :raises Precondition: `PROVIDER_ARCHIVED`
        """
        # In a thread: large templates and schemas take some 100 ms.
        complete = await asyncio.to_thread(completed, content, field="version")
        warnings = await self.model_checks.check(
            caller, project_segment, [Wanted("version", complete)], skip=skip_model_check
        )
        async with self.store.writing(is_dry=is_dry) as tx:
            project = await find_project(tx, caller, project_segment)
            version = await put(tx, project, complete, field="version", now=self.now())
            is_new = version.created_in == tx.sequence
            if is_new:
                await tx.announce([])
        return Written(version, 0 if is_dry and is_new else version.created_in, warnings)

    async def get_version(self, caller: Caller, project_segment: str, uid: str) -> Version:
        """:raises NotFound: `VERSION_NOT_FOUND`"""
        async with self.store.reading() as tx:
            project = await find_project(tx, caller, project_segment)
            found = await tx.version(project, uid)
            if found is None:
                raise missing("version", f"projects/{project_segment}/versions/{uid}")
            return found

    async def list_versions(self, caller: Caller, project_segment: str, request: ListRequest) -> Page[Version]:
        """A project's, oldest first."""
        async with self.store.reading() as tx:
            project = await find_project(tx, caller, project_segment)
            subject = f"versions of {project.uid}"
            asked = requested_page(request, subject)
            found, has_more = await tx.versions(project, asked, max_bytes=MAX_ANSWER_BYTES)
        cursor = (found[-1].created_in, found[-1].uid) if has_more else ()
        return bounded_page(found, cursor, subject, has_more=has_more)


def completed(given: Content, *, field: str) -> Content:
    """The same configuration with its whole variables schema, if it can be one. Costs some 100 ms for large ones,
    so it comes before the transaction, and in a thread.

    :param field: path of the version in the request, for violations
    :raises Invalid: `VERSION_TOO_LARGE`, and what :mod:`completions` refuses
    """
    with fields_below(field):
        # What a provider's slug may be is not for the content to say; whether there is one, the transaction finds out.
        validate(replace(given, provider="any"))
        complete = replace(given, variables_schema=schema.variables_schema(given.messages, given.variables_schema))
    check_size(complete, field=field)
    with fields_below(field):
        # What no alias could promise is refused here, where the caller finds it.
        InputCheck().prepare(contract_of({"": Contract(complete.variables_schema, complete.response_format)}))
    return complete


def check_size(complete: Content, *, field: str) -> None:
    """:raises Invalid: `VERSION_TOO_LARGE`"""
    if _size(complete) > MAX_VERSION_BYTES:
        raise violated("VERSION_TOO_LARGE", field, f"must hold at most {MAX_VERSION_BYTES} bytes")


async def put(tx: Writing, project: Project, complete: Content, *, field: str, now: datetime) -> Version:
    """The version with this content, stored if it is new: then its `created_in` is the transaction's.

    Its id is made of the complete content with the provider's slug, so what a caller reads and puts again is the same
    version.

    :param complete: from :func:`completed`; its provider is a slug or a uid
    :raises Invalid: `PROVIDER_NOT_FOUND`
    :raises Precondition: `PROVIDER_ARCHIVED` if it is new
    """
    provider = await tx.provider(project, complete.provider)
    if provider is None:
        raise violated("PROVIDER_NOT_FOUND", f"{field}.provider", f"there is no provider {complete.provider!r} here")
    content = replace(complete, provider=provider.slug)
    uid = version_id(content)
    found = await tx.version(project, uid)
    if found is not None:
        return await seen(tx, found, now)
    if provider.archived_at is not None:
        raise archived(provider)
    fresh = Version(uid, project, provider.uid, content, now, tx.sequence, now)
    await tx.add_version(fresh)
    return fresh


async def seen(tx: Noting, version: Version, now: datetime) -> Version:
    """A version that is put or used again: it is kept from expiring."""
    await tx.touch_versions({(version.project.uid, version.uid): now})
    return replace(version, seen_at=max(version.seen_at, now))


def _size(content: Content) -> int:
    """About what it takes in a message."""
    texts = [
        text
        for message in content.messages
        for text in (
            message.content,
            message.reasoning,
            *(getattr(part, "text", "") or getattr(part, "url", "") for part in message.parts),
            *(call.arguments_json for call in message.tool_calls),
        )
    ]
    documents = (
        content.tools,
        content.tool_choice,
        content.response_format,
        content.variables_schema,
        content.parameters.extra,
    )
    texts += content.parameters.stop
    return sum(len(text.encode()) for text in texts) + sum(len(dump(document).encode()) for document in documents)


@contextmanager
def fields_below(field: str) -> Iterator[None]:
    """Violations with the paths that the request has, not those of the content."""
    try:
        yield
    except Invalid as error:
        found = [Violation(_request_path(field, each.field), each.message) for each in error.violations]
        message = f"{found[0].field} {found[0].message}" if found else error.message
        raise Invalid(message, reason=error.reason, violations=found) from None


def _request_path(field: str, path: str) -> str:
    path = _VARIABLES.sub("variables_schema", path)
    in_proto = _TOOL_NAME.sub(r"\1.tool", _JSON_FIELD.sub(r"\1_json", path))
    return f"{field}.{in_proto}"
