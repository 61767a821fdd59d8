"""Prompts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from catalog.configurations import version_from_proto, version_to_proto
from completions.chat import Message
from completions.version import Version as Content
from kit.resource_names import parse
from services.registry.convert.changes import paths_named
from services.registry.convert.text import time_to_proto
from services.registry.domain import Prompt, PromptChange, PromptDraft, PromptName, violated, with_number
from turnout.chat.v1 import message_pb2 as chat_pb
from turnout.registry.v1 import prompt_pb2 as pb
from turnout.registry.v1 import version_pb2

_PATTERN: Final = "projects/*/prompts/*"


def prompt_name(name: str, *, field: str) -> PromptName:
    """What `projects/shop/prompts/welcome` names.

    :raises Invalid: `RESOURCE_NAME_MALFORMED`
    """
    project, segment = parse(name, _PATTERN, field=field)
    return PromptName(project, segment)


def numbered_name(name: str, *, field: str) -> PromptName:
    """The same with `@3` behind it, if an earlier state is meant.

    :raises Invalid: `RESOURCE_NAME_MALFORMED`
    """
    parts = with_number(name)
    if parts is None:
        raise violated(
            "RESOURCE_NAME_MALFORMED", field, "must have a number such as 3 behind its @: 1 to 999999999, no zero first"
        )
    project, segment = parse(parts[0], _PATTERN, field=field)
    return PromptName(project, segment, parts[1])


def prompt_draft(slug: str, prompt: pb.Prompt) -> PromptDraft:
    """What CreatePrompt is given.

    :raises Invalid: for JSON that is no object, and messages that are none
    """
    content = _content(prompt)
    return PromptDraft(
        slug=slug,
        display_name=prompt.display_name,
        description=prompt.description,
        messages=content.messages,
        variables_schema=content.variables_schema,
        note=prompt.note,
    )


def prompt_change(prompt: pb.Prompt, paths: Sequence[str]) -> PromptChange:
    """What UpdatePrompt is to change.

    :param paths: of the update mask; none means whatever has a value
    :raises Invalid: `UPDATE_MASK_INVALID`, and as :func:`prompt_draft`
    """
    named = paths_named(prompt, paths, ("display_name", "description", "messages", "variables_schema_json"))
    content = _content(prompt)
    return PromptChange(
        display_name=prompt.display_name if "display_name" in named else None,
        description=prompt.description if "description" in named else None,
        messages=content.messages if "messages" in named else None,
        changes_schema="variables_schema_json" in named,
        variables_schema=content.variables_schema,
        note=prompt.note,
    )


def prompt_to_proto(prompt: Prompt) -> pb.Prompt:
    """As callers see it."""
    state = prompt.state
    said = version_to_proto(
        Content(provider="", model="", messages=state.messages, variables_schema=state.variables_schema), provider=""
    )
    return pb.Prompt(
        name=prompt.name,
        uid=prompt.uid,
        number=state.number,
        display_name=prompt.display_name,
        description=prompt.description,
        messages=said.messages,
        variables_schema_json=said.variables_schema_json,
        note=state.note,
        author=state.author,
        number_create_time=time_to_proto(state.created_at),
        create_time=time_to_proto(prompt.record.created_at),
        update_time=time_to_proto(prompt.record.updated_at),
        etag=prompt.record.etag(prompt.uid),
        archived=prompt.archived_at is not None,
    )


def messages_to_proto(messages: Iterable[Message]) -> Iterable[chat_pb.Message]:
    """As callers see them."""
    return version_to_proto(Content(provider="", model="", messages=tuple(messages)), provider="").messages


def _content(prompt: pb.Prompt) -> Content:
    said = version_pb2.Version(messages=prompt.messages, variables_schema_json=prompt.variables_schema_json)
    return version_from_proto(said, field="prompt")
