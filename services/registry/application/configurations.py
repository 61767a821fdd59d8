"""What may become a version, and its id."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from completions import schema
from completions.contract import Contract, InputCheck, contract_of
from completions.version import Version as Content
from completions.version import validate, version_id
from kit.errors import Invalid, Violation
from kit.json import dump
from services.registry.domain import Prompt, Provider, violated

MAX_VERSION_BYTES: Final = 2 << 20
"""Every service holds every version in use and gets it in one message."""
_JSON_FIELD: Final = re.compile(r"^(tools|tool_choice|response_format|variables_schema|parameters\.extra)(?=$|[.\[])")
_VARIABLES: Final = re.compile(r"^variables(?=$|[.\[])")
_TOOL_NAME: Final = re.compile(r"(\.tool_calls\[\d+\])\.name$")


@dataclass(frozen=True, slots=True)
class Complete:
    """A configuration with its whole variables schema, and the id that it has as a version. Made in a thread: it may
    hold 2 MiB."""

    content: Content
    uid: str


def identified(given: Content, *, field: str) -> Complete:
    """As :func:`completed`, with its id."""
    complete = completed(given, field=field)
    return Complete(complete, version_id(complete))


async def with_slug(complete: Complete, provider: Provider) -> Complete:
    """The same by its provider's slug: a uid may have been given, and is in no version's id."""
    if complete.content.provider == provider.slug:
        return complete
    content = replace(complete.content, provider=provider.slug)
    return Complete(content, await asyncio.to_thread(version_id, content))


def with_messages(complete: Complete, prompt: Prompt) -> Complete:
    """The same with what a prompt says. Costs as much as :func:`version_id`, so it comes in a thread."""
    said = prompt.state
    content = replace(complete.content, messages=said.messages, variables_schema=said.variables_schema)
    return Complete(content, version_id(content))


def completed(given: Content, *, field: str) -> Content:
    """The same configuration with its whole variables schema, if it can be one. Costs some 100 ms for large ones,
    so it comes before the transaction, and in a thread.

    :param field: path of the version in the request, for violations
    :raises Invalid: `VERSION_TOO_LARGE`, and what :mod:`completions` refuses
    """
    with fields_below(field):
        # What a provider's slug may be is not for the content to say; whether there is one, the transaction finds out.
        uses = validate(replace(given, provider="any"))
        complete = replace(
            given, variables_schema=schema.variables_schema(given.messages, given.variables_schema, uses)
        )
    check_size(complete, field=field)
    with fields_below(field):
        # What no alias could promise is refused here, where the caller finds it.
        InputCheck().prepare(contract_of({"": Contract(complete.variables_schema, complete.response_format)}))
    return complete


def check_size(complete: Content, *, field: str) -> None:
    """:raises Invalid: `VERSION_TOO_LARGE`"""
    if _size(complete) > MAX_VERSION_BYTES:
        raise violated("VERSION_TOO_LARGE", field, f"must hold at most {MAX_VERSION_BYTES} bytes")


def _size(content: Content) -> int:
    """About what it takes in a message."""
    texts = [
        text
        for message in content.messages
        for text in (
            message.content,
            message.reasoning,
            *(getattr(part, "text", "") or getattr(part, "url", "") for part in message.parts),
            *(call.arguments_json + call.extra_content_json for call in message.tool_calls),
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
