"""Use cases of versions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

from completions import schema
from completions.version import Version as Content
from completions.version import validate, version_id
from kit.errors import Invalid, Violation
from kit.json import dump
from kit.paging import Page
from services.registry.application.access import ListRequest, Written, find_project, found_page, requested_page
from services.registry.domain import Caller, Project, Version, missing, violated
from services.registry.ports import Clock, Store, Writing

MAX_VERSION_BYTES = 2 << 20
"""Every service holds every version in use and gets it in one message."""
_JSON_FIELD = re.compile(r"^(tools|tool_choice|response_format|variables_schema|parameters\.extra)(?=$|[.\[])")
_TOOL_NAME = re.compile(r"(\.tool_calls\[\d+\])\.name$")


@dataclass(frozen=True, slots=True)
class Versions:
    """The completion configurations."""

    store: Store
    now: Clock

    async def put_version(
        self, caller: Caller, project_segment: str, content: Content, *, is_dry: bool
    ) -> Written[Version]:
        """Idempotent by content.

        :raises Invalid: as :func:`completed` and :func:`put`
        """
        complete = completed(content, field="version")
        async with self.store.writing(is_dry=is_dry) as tx:
            project = await find_project(tx, caller, project_segment)
            version = await put(tx, project, complete, field="version", now=self.now())
            is_new = version.created_in == tx.sequence
            if is_new:
                await tx.announce([])
        return Written(version, 0 if is_dry and is_new else version.created_in)

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
            return found_page(list(await tx.versions(project, asked)), asked, subject)


def completed(given: Content, *, field: str) -> Content:
    """The same configuration with its whole variables schema, if it can be one. Costs milliseconds for large templates,
    so it comes before the transaction.

    :param field: path of the version in the request, for violations
    :raises Invalid: `VERSION_TOO_LARGE`, and what :mod:`completions` refuses
    """
    with _fields_below(field):
        # What a provider's slug may be is not for the content to say; whether there is one, the transaction finds out.
        validate(replace(given, provider="any"))
        complete = replace(given, variables_schema=schema.variables_schema(given.messages, given.variables_schema))
    if _size(complete) > MAX_VERSION_BYTES:
        raise violated("VERSION_TOO_LARGE", field, f"must hold at most {MAX_VERSION_BYTES} bytes")
    return complete


async def put(tx: Writing, project: Project, complete: Content, *, field: str, now: datetime) -> Version:
    """The version with this content, stored if it is new: then its `created_in` is the transaction's.

    Its id is made of the complete content with the provider's slug, so what a caller reads and puts again is the same
    version.

    :param complete: from :func:`completed`; its provider is a slug or a uid
    :raises Invalid: `PROVIDER_NOT_FOUND`
    """
    provider = await tx.provider(project, complete.provider)
    if provider is None:
        raise violated("PROVIDER_NOT_FOUND", f"{field}.provider", f"there is no provider {complete.provider!r} here")
    content = replace(complete, provider=provider.slug)
    uid = version_id(content)
    found = await tx.version(project, uid)
    if found is not None:
        return found
    fresh = Version(uid, project, provider.uid, content, now, tx.sequence)
    await tx.add_version(fresh)
    return fresh


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
    return sum(len(text.encode()) for text in texts) + sum(len(dump(document).encode()) for document in documents)


@contextmanager
def _fields_below(field: str) -> Iterator[None]:
    """Violations with the paths that the request has, not those of the content."""
    try:
        yield
    except Invalid as error:
        found = [Violation(_request_path(field, each.field), each.message) for each in error.violations]
        message = f"{found[0].field} {found[0].message}" if found else error.message
        raise Invalid(message, reason=error.reason, violations=found) from None


def _request_path(field: str, path: str) -> str:
    in_proto = _TOOL_NAME.sub(r"\1.tool", _JSON_FIELD.sub(r"\1_json", path))
    return f"{field}.{in_proto}"
