"""Prompts in Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import ColumnElement, Select, and_, func, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from completions.version import Version as Content
from kit.ids import is_uid
from kit.paging import PageRequest
from services.registry import tables
from services.registry.convert.versions import pack_content, unpack_content
from services.registry.domain import Project, Prompt, PromptState, exists
from services.registry.store import rows
from services.registry.store.answers import fitting

_prompts, _numbers = tables.prompts, tables.prompt_numbers
_NAMES_BYTES: Final = 1024
"""What a prompt takes in an answer beside its texts."""

# Postgres knows the sizes without reading the values.
_size: Final[ColumnElement[int]] = (
    func.octet_length(_numbers.c.content)
    + func.octet_length(_numbers.c.note)
    + func.octet_length(_prompts.c.description)
    + func.octet_length(_prompts.c.display_name)
    + _NAMES_BYTES
)


class PromptReading:
    """Part of the Reading port, on one session."""

    _session: AsyncSession

    async def prompt(self, project: Project, segment: str, number: int | None = None) -> Prompt | None:
        """By slug or uid."""
        by = _prompts.c.uid == segment if is_uid(segment) else _prompts.c.slug == segment
        query = _states(_numbers.c.number == (_prompts.c.number if number is None else number))
        row = (await self._session.execute(query.where(_prompts.c.project == project.uid, by))).one_or_none()
        return None if row is None else _prompt(row, project)

    async def prompts(
        self, project: Project, page: PageRequest, *, with_archived: bool, max_bytes: int
    ) -> tuple[Sequence[Prompt], bool]:
        """In the order of creation."""
        latest = and_(_numbers.c.prompt == _prompts.c.uid, _numbers.c.number == _prompts.c.number)
        query = select(_prompts.c.uid.label("key"), _size.label("bytes")).join(_numbers, latest)
        query = query.where(_prompts.c.project == project.uid)
        if not with_archived:
            query = query.where(_prompts.c.archived_at.is_(None))
        if page.after is not None:
            query = query.where(tuple_(_prompts.c.created_in, _prompts.c.uid) > tuple_(*page.after))
        query = query.order_by(_prompts.c.created_in, _prompts.c.uid).limit(page.size + 1)
        sized = (await self._session.execute(query)).all()
        keys = fitting(((row.key, row.bytes) for row in sized), page.size, max_bytes)
        states = _states(_numbers.c.number == _prompts.c.number).where(_prompts.c.uid.in_(keys))
        found = await self._session.execute(states.order_by(_prompts.c.created_in, _prompts.c.uid))
        return [_prompt(row, project) for row in found], len(keys) < len(sized)

    async def prompt_numbers(
        self, prompt: Prompt, page: PageRequest, *, max_bytes: int
    ) -> tuple[Sequence[Prompt], bool]:
        """Newest first."""
        query = (
            select(_numbers.c.number.label("key"), _size.label("bytes"))
            .join(_prompts, _prompts.c.uid == _numbers.c.prompt)
            .where(_numbers.c.prompt == prompt.uid)
        )
        if page.after is not None:
            query = query.where(_numbers.c.number < page.after[0])
        query = query.order_by(_numbers.c.number.desc()).limit(page.size + 1)
        sized = (await self._session.execute(query)).all()
        keys = fitting(((row.key, row.bytes) for row in sized), page.size, max_bytes)
        states = _states(_numbers.c.number.in_(keys)).where(_prompts.c.uid == prompt.uid)
        found = await self._session.execute(states.order_by(_numbers.c.number.desc()))
        return [_prompt(row, prompt.project) for row in found], len(keys) < len(sized)


class PromptWriting:
    """Part of the Writing port, on one session."""

    _session: AsyncSession

    async def add_prompt(self, prompt: Prompt) -> None:
        """:raises Exists: `PROMPT_EXISTS`"""
        statement = insert(_prompts).values(
            uid=prompt.uid,
            project=prompt.project.uid,
            slug=prompt.slug,
            creator=prompt.creator,
            **_values(prompt),
        )
        unless_taken = statement.on_conflict_do_nothing(index_elements=[_prompts.c.project, _prompts.c.slug])
        if await self._session.scalar(unless_taken.returning(_prompts.c.uid)) is None:
            raise exists("prompt", prompt.name)
        await self._keep_state(prompt)

    async def replace_prompt(self, prompt: Prompt) -> None:
        """Store another state of it."""
        await self._session.execute(update(_prompts).where(_prompts.c.uid == prompt.uid).values(**_values(prompt)))
        await self._keep_state(prompt)

    async def _keep_state(self, prompt: Prompt) -> None:
        state = prompt.state
        content = Content(provider="", model="", messages=state.messages, variables_schema=state.variables_schema)
        statement = insert(_numbers).values(
            prompt=prompt.uid,
            number=state.number,
            content=pack_content(content),
            note=state.note,
            author=state.author,
            created_at=state.created_at,
        )
        await self._session.execute(
            statement.on_conflict_do_nothing(index_elements=[_numbers.c.prompt, _numbers.c.number])
        )


def _states(of: ColumnElement[bool]) -> Select[tuple[object, ...]]:
    """Prompts with what they say as of `of`."""
    state = (
        _numbers.c.number.label("of_number"),
        _numbers.c.content,
        _numbers.c.note,
        _numbers.c.author,
        _numbers.c.created_at.label("number_created_at"),
    )
    return select(_prompts, *state).join(_numbers, and_(_numbers.c.prompt == _prompts.c.uid, of))


def _prompt(row: rows.AnyRow, of: Project) -> Prompt:
    content = unpack_content(row.content)
    return Prompt(
        uid=row.uid,
        project=of,
        slug=row.slug,
        display_name=row.display_name,
        description=row.description,
        creator=row.creator,
        archived_at=row.archived_at,
        record=rows.record(row),
        state=PromptState(
            number=row.of_number,
            messages=content.messages,
            variables_schema=content.variables_schema,
            note=row.note,
            author=row.author,
            created_at=row.number_created_at,
        ),
    )


def _values(prompt: Prompt) -> dict[str, object]:
    return {
        "display_name": prompt.display_name,
        "description": prompt.description,
        "number": prompt.state.number,
        "archived_at": prompt.archived_at,
        **rows.record_values(prompt.record),
    }
