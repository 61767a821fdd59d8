"""Named message templates, numbered as they change. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from completions import schema
from completions.chat import Message
from kit.json import Json
from services.registry.domain.access import Project, Record

_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")
"""Nine digits fit the column."""
_UNREAD: Final = object()


@dataclass(frozen=True, slots=True)
class PromptUse:
    """What a version was made from."""

    uid: str
    slug: str
    number: int

    @property
    def label(self) -> str:
        """As people write it: `welcome@3`."""
        return f"{self.slug}@{self.number}"


@dataclass(frozen=True, slots=True)
class PromptState:
    """What a prompt says, as of one of its numbers; for ever."""

    number: int
    messages: tuple[Message, ...]
    variables_schema: dict[str, Json] | None
    """Complete: what is declared, and what the templates read."""
    note: str
    author: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Prompt:
    """Message templates under a name."""

    uid: str
    project: Project
    slug: str
    display_name: str
    description: str
    creator: str
    archived_at: datetime | None
    record: Record
    state: PromptState
    """The latest, unless another was asked for."""

    @property
    def name(self) -> str:
        """The resource name."""
        return f"{self.project.name}/prompts/{self.slug}"

    @property
    def use(self) -> PromptUse:
        """What a version that is made from this state keeps."""
        return PromptUse(self.uid, self.slug, self.state.number)


@dataclass(frozen=True, slots=True)
class PromptDraft:
    """A prompt to be made."""

    slug: str
    display_name: str
    description: str
    messages: tuple[Message, ...]
    variables_schema: dict[str, Json] | None
    note: str


@dataclass(frozen=True, slots=True)
class PromptChange:
    """What of a prompt is to change; None leaves it as it is."""

    display_name: str | None = None
    description: str | None = None
    messages: tuple[Message, ...] | None = None
    changes_schema: bool = False
    variables_schema: dict[str, Json] | None = None
    """None, if it is to change, declares nothing."""
    note: str = ""
    """Of the number that this makes, if it makes one."""

    @property
    def touches_state(self) -> bool:
        """Whether it may make a number."""
        return self.messages is not None or self.changes_schema


@dataclass(frozen=True, slots=True)
class PromptName:
    """What names a prompt."""

    project: str
    segment: str
    """Slug or uid."""
    number: int | None = None
    """None for the latest."""


def with_number(name: str) -> tuple[str, int | None] | None:
    """What is before and behind the `@` of `welcome@3`; no number without one; None if it is no number."""
    before, at, number = name.partition("@")
    if not at:
        return before, None
    return (before, int(number)) if _NUMBER.fullmatch(number) else None


def declared(state: PromptState) -> dict[str, Json] | None:
    """What the schema of a state says that its templates do not: it stays declared when they change."""
    if state.variables_schema is None:
        return None
    read = schema.variables_schema(state.messages, None)
    return state.variables_schema if read is None else _beyond(state.variables_schema, read) or None


def _beyond(said: dict[str, Json], read: dict[str, Json]) -> dict[str, Json]:
    rest: dict[str, Json] = {}
    for name, value in said.items():
        known = read.get(name, _UNREAD)
        if value == known:
            continue
        if isinstance(value, dict) and isinstance(known, dict):
            value = _beyond(value, known)
        elif name == "required" and isinstance(value, list) and isinstance(known, list):
            value = [each for each in value if each not in known]
        rest[name] = value
    return rest
