"""What a call says of itself, for a deployment's rules to ask about: options of commands that call, or ask who would be
called."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import orjson
import typer

from catalog.conditions import MAX_CONTEXT_BYTES, read_context
from kit.errors import Invalid
from kit.json import Json, parse

_PANEL: Final = "Who calls, and with what"
_MAX_FILE_BYTES: Final = 64 << 20
"""Of a file with many contexts."""
_STDIN: Final = "-"
_CONTEXT: Final = ("--context", "-c")
"""The option, as whoever used it wrote it."""
_CONTEXTS: Final = ("--contexts",)
_VARIABLE: Final = ("--variable", "-v")
_HERE: Final = "the context"
"""What is on the command line itself."""

Contexts: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        *_CONTEXT,
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
            members |= _members(_read(each[1:]), _CONTEXT, where=each[1:])
        elif each.lstrip()[:1] == "{":
            members |= _members(each.encode(errors="surrogatepass"), _CONTEXT)
        else:
            members |= _pair(each, "a context is written name=value, as a JSON object, or @FILE", _CONTEXT)
    return _object(members, _CONTEXT) if given else ""


def variables_json(given: Sequence[str]) -> str:
    """What all `-v name=value` together amount to: a JSON object; of a repeated name the last counts.

    :raises typer.BadParameter: if one of them is not written so
    """
    members: dict[str, str] = {}
    for each in given:
        members |= _pair(each, "a variable is written name=value", _VARIABLE)
    return _joined(members)


def _pair(given: str, how: str, option: Sequence[str]) -> dict[str, str]:
    """`name=value` as the name and the value's JSON; a value that is none is a text.

    :param how: how it is written, for whoever wrote it otherwise
    :raises typer.BadParameter: if it is not written so
    """
    name, equals, value = given.partition("=")
    if not equals or not name:
        raise _bad(f"{how}, not {given!r}", option)
    try:
        # The text itself is sent: long numbers keep their digits.
        orjson.loads(value)
    except orjson.JSONDecodeError:
        value = orjson.dumps(value).decode()
    return {name: value}


def many(file: str, *, most: int) -> list[str]:
    """Contexts from a file, one JSON object a line; empty lines are passed over.

    :param file: `-` is standard input
    :param most: how many can be used
    :raises typer.BadParameter: with the line that is none, or if there are none or too many
    """
    found: list[str] = []
    for number, line in _lines(_read(file, _CONTEXTS, most_bytes=_MAX_FILE_BYTES)):
        if len(found) == most:
            raise _bad(f"{file} has more than {most:,} contexts: at most so many can be tried at once", _CONTEXTS)
        where = f"{file}:{number}"
        found.append(_object(_members(line, _CONTEXTS, where=where), _CONTEXTS, where=where))
    if not found:
        raise _bad(f"{file} has no context in it: one JSON object a line is read", _CONTEXTS)
    return found


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(data.split(b"\n"), start=1) if line.strip())


def _members(data: bytes, option: Sequence[str], *, where: str = _HERE) -> dict[str, str]:
    """By name, each in JSON."""
    try:
        document: Json = parse(data, field=where, max_bytes=MAX_CONTEXT_BYTES)
    except Invalid as error:
        raise _bad(error.message, option) from None
    if not isinstance(document, dict):
        raise _bad(f'{where} must be a JSON object, such as {{"country": "ES"}}', option)
    return {name: orjson.dumps(value).decode() for name, value in document.items()}


def _object(members: dict[str, str], option: Sequence[str], *, where: str = _HERE) -> str:
    """As it is sent.

    :raises typer.BadParameter: if it would be refused
    """
    text = _joined(members)
    try:
        read_context(text, field=where)
    except Invalid as error:
        raise _bad(error.message, option) from None
    return text


def _joined(members: dict[str, str]) -> str:
    return "{" + ",".join(f"{orjson.dumps(name).decode()}:{value}" for name, value in members.items()) + "}"


def _read(file: str, option: Sequence[str] = _CONTEXT, *, most_bytes: int = MAX_CONTEXT_BYTES) -> bytes:
    if not file:
        raise _bad("@ names no file", option)
    try:
        if file == _STDIN:
            data = sys.stdin.buffer.read(most_bytes + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(most_bytes + 1)
    except OSError as error:
        raise _bad(f"{file} cannot be read: {error.strerror}", option) from None
    if len(data) > most_bytes:
        raise _bad(f"{file} is too large: at most {most_bytes:,} bytes are read", option)
    return data


def _bad(problem: str, option: Sequence[str]) -> typer.BadParameter:
    return typer.BadParameter(problem, param_hint=option)
