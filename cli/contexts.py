"""What a call says of itself, for a deployment's rules to ask about: options of commands that call, or ask who would be
called."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import orjson
import typer

from catalog.conditions import MAX_CONTEXT_BYTES
from kit.errors import Invalid
from kit.json import Json, parse

_PANEL: Final = "Who calls, and with what"
_MAX_FILE_BYTES: Final = 64 << 20
"""Of a file with many contexts."""
_STDIN: Final = "-"

Contexts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--context",
        "-c",
        help="What the deployment's rules ask about: name=value, a JSON object, or @FILE with one; repeat for more "
        "members. A value that is JSON is taken as such, all else as text.",
        rich_help_panel=_PANEL,
    ),
]
Key: TypeAlias = Annotated[
    str,
    typer.Option(
        "--key",
        "--routing-key",
        help="What the choice of variant sticks to, such as a user's id.",
        rich_help_panel=_PANEL,
    ),
]
Identity: TypeAlias = Annotated[
    str, typer.Option(help="Whom the caller acts for; it sticks to that without a key.", rich_help_panel=_PANEL)
]
Thread: TypeAlias = Annotated[
    str, typer.Option(help="The conversation; it sticks to that without the two.", rich_help_panel=_PANEL)
]
User: TypeAlias = Annotated[
    str, typer.Option(help="The end user; it sticks to that without the three.", rich_help_panel=_PANEL)
]


def context_json(given: Sequence[str]) -> str:
    """What all `--context` together amount to: a JSON object, of a repeated name the last; empty if none was given.

    :raises typer.BadParameter: if one of them is no context
    """
    members: dict[str, str] = {}
    for each in given:
        if each.startswith("@"):
            members |= _members(_read(each[1:]), hint=each)
        elif each.lstrip()[:1] == "{":
            members |= _members(each.encode(errors="surrogatepass"), hint="--context")
        else:
            members |= pair(each, "a context is written name=value, as a JSON object, or @FILE")
    return _object(members) if given else ""


def pair(given: str, how: str) -> dict[str, str]:
    """`name=value` as the name and the value's JSON; a value that is none is a text.

    :param how: how it is written, for whoever wrote it otherwise
    :raises typer.BadParameter: if it is not written so
    """
    name, equals, value = given.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{how}, not {given!r}")
    try:
        # The text itself is sent: long numbers keep their digits.
        orjson.loads(value)
    except orjson.JSONDecodeError:
        value = orjson.dumps(value).decode()
    return {name: value}


def pairs_json(pairs: Sequence[str], how: str) -> str:
    """Several of :func:`pair` as one JSON object; of a repeated name the last counts."""
    members: dict[str, str] = {}
    for each in pairs:
        members |= pair(each, how)
    return _object(members)


def many(file: str, *, most: int) -> list[str]:
    """Contexts from a file, one JSON object a line; empty lines are passed over.

    :param file: `-` is standard input
    :param most: how many can be used
    :raises typer.BadParameter: with the line that is none, or if there are none or too many
    """
    found: list[str] = []
    for number, line in _lines(_read(file, most_bytes=_MAX_FILE_BYTES, hint="--contexts")):
        if len(found) == most:
            raise _bad(f"{file} has more than {most:,} contexts: at most so many can be tried at once", "--contexts")
        found.append(_object(_members(line, hint="--contexts", where=f"{file}:{number}")))
    if not found:
        raise _bad(f"{file} has no context in it: one JSON object a line is read", "--contexts")
    return found


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(data.split(b"\n"), start=1) if line.strip())


def _members(data: bytes, *, hint: str, where: str = "") -> dict[str, str]:
    """By name, each in JSON."""
    try:
        document: Json = parse(data, field=where or "the context", max_bytes=MAX_CONTEXT_BYTES)
    except Invalid as error:
        raise _bad(error.message, hint) from None
    if not isinstance(document, dict):
        raise _bad(f'{where or "the context"} must be a JSON object, such as {{"country": "ES"}}', hint)
    return {name: orjson.dumps(value).decode() for name, value in document.items()}


def _object(members: dict[str, str]) -> str:
    return "{" + ",".join(f"{orjson.dumps(name).decode()}:{value}" for name, value in members.items()) + "}"


def _read(file: str, *, most_bytes: int = MAX_CONTEXT_BYTES, hint: str = "--context") -> bytes:
    if not file:
        raise _bad("@ names no file", hint)
    try:
        if file == _STDIN:
            data = sys.stdin.buffer.read(most_bytes + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(most_bytes + 1)
    except OSError as error:
        raise _bad(f"{file} cannot be read: {error.strerror}", hint) from None
    if len(data) > most_bytes:
        raise _bad(f"{file} is too large: at most {most_bytes:,} bytes are read", hint)
    return data


def _bad(problem: str, hint: str) -> typer.BadParameter:
    return typer.BadParameter(problem, param_hint=hint)
