"""Files that hold messages, in YAML or JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import typer
from google.protobuf.json_format import ParseDict, ParseError

from cli.apply import text
from cli.words import ROLES, Role
from kit.errors import Invalid
from kit.json import Json, dump
from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import prompt_pb2

_FIELDS: Final = ("messages", "variables_schema", "variables_schema_json")


def fill(prompt: prompt_pb2.Prompt, file: Path) -> list[str]:
    """Give a prompt what a file says: a list of messages, or an object with `messages` and `variables_schema`; what
    else an object has is left, so that a prompt's JSON is such a file.

    :param file: `-` is standard input
    :return: the fields that this sets
    :raises typer.BadParameter: if it cannot be used, saying why
    """
    document = _document(file)
    if isinstance(document, list):
        document = {"messages": document}
    if not isinstance(document, dict) or not set(document) & set(_FIELDS):
        raise _bad("must hold a list of messages, or an object with `messages`")
    named: list[str] = []
    if "messages" in document:
        given = document["messages"]
        if not isinstance(given, list) or not given:
            raise _bad("`messages` must be a list with at least one message")
        prompt.messages.extend(_message(each, index) for index, each in enumerate(given))
        named.append("messages")
    schema = document.get("variables_schema")
    schema_json = document.get("variables_schema_json", "" if schema is None else dump(schema))
    if not isinstance(schema_json, str):
        raise _bad("`variables_schema_json` must be text; an object goes into `variables_schema`")
    if schema_json:
        prompt.variables_schema_json = schema_json
        named.append("variables_schema_json")
    return named


def _document(file: Path) -> Json:
    is_stdin = str(file) == "-"
    try:
        data = sys.stdin.buffer.read(text.MAX_BYTES + 1) if is_stdin else _start_of(file)
    except OSError as error:
        raise _bad(f"cannot be read: {error.strerror}") from None
    try:
        return text.value(data, source="<stdin>" if is_stdin else str(file))
    except Invalid as error:
        raise _bad(error.message) from None


def _start_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(text.MAX_BYTES + 1)


def _message(given: Any, index: int) -> message_pb2.Message:
    where = f"messages[{index}]"
    if not isinstance(given, dict):
        raise _bad(f"{where} must have a `role` and a `content`")
    # As files say it, and as a prompt's JSON does.
    role = str(given.get("role", "")).removeprefix("ROLE_").lower()
    if role not in list(Role):
        raise _bad(f"{where}.role must be one of {', '.join(Role)}")
    try:
        return ParseDict({**given, "role": ROLES[Role(role)]}, message_pb2.Message())
    except (ParseError, RecursionError) as error:
        raise _bad(f"{where}: {error}") from None


def _bad(message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint="--file")
