"""Use cases of prompts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from completions.chat import Message
from completions.template import MAX_VARIABLES_BYTES, CompiledMessages
from completions.version import Version as Content
from kit.json import Json, parse_object
from kit.paging import Page, page_request
from services.registry import domain
from services.registry.application import archives
from services.registry.application.access import (
    MAX_ANSWER_BYTES,
    ListRequest,
    Written,
    bounded_page,
    caller_name,
    check_etag,
    find_project,
    remember,
    repeat_of,
    requested_page,
)
from services.registry.application.configurations import completed
from services.registry.domain import (
    Caller,
    Prompt,
    PromptChange,
    PromptDraft,
    PromptName,
    PromptState,
    Record,
    declared,
    missing,
    violated,
)
from services.registry.ports import Clock, NewUid, Reading, Store, Write

_CREATE: Final = "CreatePrompt"
_MAX_TRIES: Final = 3
"""How often an update begins, where somebody else is faster, until it makes the others wait."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Message templates that several variants share."""

    store: Store
    now: Clock
    new_uid: NewUid

    async def create_prompt(
        self, caller: Caller, project_segment: str, draft: PromptDraft, write: Write
    ) -> Written[Prompt]:
        """A prompt whose number is 1.

        :raises Exists: `PROMPT_EXISTS`
        :raises Invalid: `SLUG_INVALID`, `MESSAGES_REQUIRED`, and as :func:`configurations.completed`
        """
        domain.check_slug(draft.slug, field="prompt_id")
        schema = await asyncio.to_thread(_complete, draft.messages, draft.variables_schema)
        async with self.store.writing(is_dry=write.is_dry) as tx:
            project = await find_project(tx, caller, project_segment)
            if repeated := await repeat_of(tx, write, _CREATE, project):
                found = await tx.prompt(project, repeated)
                if found is None:
                    raise missing("prompt", f"{project.name}/prompts/{repeated}")
                return Written(found, found.record.changed_in)
            now, uid, author = self.now(), self.new_uid("pmt"), caller_name(caller, project)
            prompt = Prompt(
                uid=uid,
                project=project,
                slug=draft.slug,
                display_name=draft.display_name or draft.slug,
                description=draft.description,
                creator=author,
                archived_at=None,
                record=Record(now, now, tx.sequence, tx.sequence),
                state=PromptState(1, draft.messages, schema, draft.note, author, now),
            )
            await tx.add_prompt(prompt)
            await remember(tx, write, _CREATE, project, uid, now)
            await tx.announce([])
        return Written(prompt, 0 if write.is_dry else tx.sequence)

    async def get_prompt(self, caller: Caller, name: PromptName) -> Prompt:
        """:raises NotFound: `PROMPT_NOT_FOUND`"""
        async with self.store.reading() as tx:
            return await _find(tx, caller, name)

    async def list_prompts(
        self, caller: Caller, project_segment: str, request: ListRequest, *, with_archived: bool = False
    ) -> Page[Prompt]:
        """A project's, oldest first, as of their latest numbers."""
        async with self.store.reading() as tx:
            project = await find_project(tx, caller, project_segment)
            subject = f"prompts of {project.uid}{' and archived ones' if with_archived else ''}"
            asked = requested_page(request, subject)
            found, has_more = await tx.prompts(project, asked, with_archived=with_archived, max_bytes=MAX_ANSWER_BYTES)
        cursor = (found[-1].record.created_in, found[-1].uid) if has_more else ()
        return bounded_page(found, cursor, subject, has_more=has_more)

    async def list_prompt_numbers(self, caller: Caller, name: PromptName, request: ListRequest) -> Page[Prompt]:
        """A prompt as of each of its numbers, newest first.

        :raises NotFound: `PROMPT_NOT_FOUND`
        """
        async with self.store.reading() as tx:
            prompt = await _find(tx, caller, name)
            subject = f"numbers of {prompt.uid}"
            asked = page_request(request.size, request.token, subject=subject, shape=(int,))
            found, has_more = await tx.prompt_numbers(prompt, asked, max_bytes=MAX_ANSWER_BYTES)
        return bounded_page(found, (found[-1].state.number,) if has_more else (), subject, has_more=has_more)

    async def update_prompt(
        self, caller: Caller, name: PromptName, change: PromptChange, *, etag: str, is_dry: bool = False
    ) -> Written[Prompt]:
        """Other texts, or other messages, which is a new number.

        :raises NotFound: `PROMPT_NOT_FOUND`
        :raises Precondition: `PROMPT_ARCHIVED`
        :raises Conflict: `ETAG_MISMATCH`
        :raises Invalid: as :meth:`create_prompt`
        """
        written, tried = None, 0
        while written is None:
            tried += 1
            written = await self._update(caller, name, change, etag=etag, is_dry=is_dry, is_last=tried == _MAX_TRIES)
        return written

    async def _update(
        self, caller: Caller, name: PromptName, change: PromptChange, *, etag: str, is_dry: bool, is_last: bool
    ) -> Written[Prompt] | None:
        """:return: None if somebody else was faster, unless it is the last try"""
        async with self.store.reading() as tx:
            seen = (await _find(tx, caller, name)).state
        # Some 100 ms for large templates, so in a thread, and before the lock that all writers wait for.
        said = await asyncio.to_thread(_said, seen, change)
        async with self.store.writing(is_dry=is_dry) as tx:
            found = await _find(tx, caller, name)
            check_etag(found, etag)
            if found.archived_at is not None:
                raise archives.archived(found)
            if found.state != seen:
                if not is_last:
                    return None
                said = await asyncio.to_thread(_said, found.state, change)
            changed = replace(
                found,
                display_name=found.display_name if change.display_name is None else change.display_name or found.slug,
                description=found.description if change.description is None else change.description,
            )
            now = self.now()
            if said != (found.state.messages, found.state.variables_schema):
                author = caller_name(caller, found.project)
                changed = replace(changed, state=PromptState(found.state.number + 1, *said, change.note, author, now))
            if changed == found:
                return Written(found, found.record.changed_in)
            changed = replace(changed, record=replace(found.record, updated_at=now, changed_in=tx.sequence))
            await tx.replace_prompt(changed)
            await tx.announce([])
        return Written(changed, 0 if is_dry else tx.sequence)

    async def archive_prompt(self, caller: Caller, name: PromptName, *, etag: str, archived: bool) -> Written[Prompt]:
        """Take it out of use, or bring it back.

        :raises NotFound: `PROMPT_NOT_FOUND`
        :raises Conflict: `ETAG_MISMATCH`
        :raises Precondition: `PROMPT_IN_USE`, with the deployments and aliases
        """
        async with self.store.writing() as tx:
            found = await _find(tx, caller, name)
            check_etag(found, etag)
            if (found.archived_at is not None) is archived:
                return Written(found, found.record.changed_in)
            if archived:
                await archives.check_unused(tx, found.project, found)
            now = self.now()
            record = replace(found.record, updated_at=now, changed_in=tx.sequence)
            changed = replace(found, archived_at=now if archived else None, record=record)
            await tx.replace_prompt(changed)
            await tx.announce([])
        return Written(changed, tx.sequence)

    async def render_prompt(
        self, caller: Caller, name: PromptName, variables_json: str
    ) -> tuple[int, tuple[Message, ...]]:
        """The number that is rendered, and its messages as a model would get them.

        :raises NotFound: `PROMPT_NOT_FOUND`
        :raises Invalid: `JSON_…` as `kit.json`; `MISSING_VARIABLES`; else as `completions.template` says
        """
        variables = parse_object(variables_json, field="variables_json", max_bytes=MAX_VARIABLES_BYTES)
        async with self.store.reading() as tx:
            state = (await _find(tx, caller, name)).state
        # Compiling and rendering are bounded, but may take long enough that others should not wait.
        return state.number, await asyncio.to_thread(lambda: CompiledMessages(state.messages).render(variables))


async def _find(tx: Reading, caller: Caller, name: PromptName) -> Prompt:
    project = await find_project(tx, caller, name.project)
    found = await tx.prompt(project, name.segment, name.number)
    if found is None:
        behind = "" if name.number is None else f"@{name.number}"
        raise missing("prompt", f"projects/{name.project}/prompts/{name.segment}{behind}")
    return found


def _complete(messages: tuple[Message, ...], declaration: dict[str, Json] | None) -> dict[str, Json] | None:
    """The whole variables schema of templates that a version may have."""
    if not messages:
        raise violated("MESSAGES_REQUIRED", "prompt.messages", "must be 1 to 256")
    # Provider and model are for the variant to say.
    content = Content(provider="any", model="any", messages=messages, variables_schema=declaration)
    return completed(content, field="prompt").variables_schema


def _said(state: PromptState, change: PromptChange) -> tuple[tuple[Message, ...], dict[str, Json] | None]:
    """The messages and the variables schema after a change."""
    if not change.touches_state:
        return state.messages, state.variables_schema
    messages = state.messages if change.messages is None else change.messages
    return messages, _complete(messages, change.variables_schema if change.changes_schema else declared(state))
