"""Which prompts versions are made from."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from completions.version import Version as Content
from kit.errors import Violation
from services.registry.application.archives import archived
from services.registry.application.configurations import Complete, check_size, with_messages
from services.registry.domain import Completion, Project, Prompt, Serving, Version, all_violated, violated, with_number
from services.registry.ports import Reading


def check_has_no_messages(content: Content, *, field: str) -> None:
    """What is made from a prompt says nothing itself.

    :param field: path of the version in the request
    :raises Invalid: `PROMPT_AND_MESSAGES`
    """
    given = (("messages", bool(content.messages)), ("variables_schema_json", content.variables_schema is not None))
    wrong = [Violation(f"{field}.{name}", "must be empty: the prompt says it") for name, is_given in given if is_given]
    if wrong:
        raise all_violated("PROMPT_AND_MESSAGES", wrong)


async def find_prompt(tx: Reading, project: Project, named: str, *, field: str) -> Prompt:
    """The state of a prompt that `welcome@3` or `welcome` names.

    :raises Invalid: `PROMPT_NOT_FOUND`
    """
    parts = with_number(named)
    found = None if parts is None else await tx.prompt(project, *parts)
    if found is None:
        raise violated("PROMPT_NOT_FOUND", field, "there is no such prompt, or no such number of it, in this project")
    return found


async def filled(complete: Complete, prompt: Prompt, *, field: str) -> Complete:
    """A complete configuration with the messages of a prompt, whose own checks were done when it was written.

    :param field: path of the version in the request
    :raises Precondition: `PROMPT_ARCHIVED`
    :raises Invalid: `VERSION_TOO_LARGE`
    """
    if prompt.archived_at is not None:
        raise archived(prompt)
    # In a thread: both may hold 2 MiB.
    return await asyncio.to_thread(_filled, complete, prompt, field)


def _filled(complete: Complete, prompt: Prompt, field: str) -> Complete:
    complete = with_messages(complete, prompt)
    check_size(complete.content, field=field)
    return complete


def check_made_from(version: Version, prompt: Prompt, *, field: str) -> None:
    """A version that is there may be given with what it was made from, as it is read.

    :raises Invalid: `PROMPT_MISMATCH`
    """
    said, has = prompt.state, version.content
    if (has.messages, has.variables_schema) != (said.messages, said.variables_schema):
        raise violated(
            "PROMPT_MISMATCH", field, "is not what this version was made from: give new_version to make one from it"
        )


def kept(former: Serving, serving: Serving) -> Serving:
    """The same version was made from the same prompt, said or not."""
    if isinstance(former, Completion) and isinstance(serving, Completion) and serving.version == former.version:
        return replace(serving, prompt=serving.prompt or former.prompt)
    return serving
