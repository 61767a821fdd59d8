"""Files that hold messages, in YAML or JSON."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import orjson
import typer
from google.protobuf.json_format import ParseDict, ParseError

from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import prompt_pb2

MAX_BYTES: Final = 4 << 20
"""More than any request could carry."""
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
    text = document.get("variables_schema_json", "" if schema is None else orjson.dumps(schema).decode())
    if not isinstance(text, str):
        raise _bad("`variables_schema_json` must be text; an object goes into `variables_schema`")
    if text:
        prompt.variables_schema_json = text
        named.append("variables_schema_json")
    return named


def _document(file: Path) -> Any:
    try:
        data = sys.stdin.buffer.read(MAX_BYTES + 1) if str(file) == "-" else _start_of(file)
    except OSError as error:
        raise _bad(f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise _bad(f"must be at most {MAX_BYTES} bytes")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        # Imported late: it costs other commands their start.
        import yaml

        try:
            return yaml.safe_load(data)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise _bad(f"is neither JSON nor YAML: {error}") from None


def _start_of(file: Path) -> bytes:
    with file.open("rb") as opened:
        return opened.read(MAX_BYTES + 1)


def _message(given: Any, index: int) -> message_pb2.Message:
    where = f"messages[{index}]"
    if not isinstance(given, dict):
        raise _bad(f"{where} must have a `role` and a `content`")
    role = str(given.get("role", "")).removeprefix("ROLE_").upper()
    if f"ROLE_{role}" not in message_pb2.Role.keys() or role in ("", "UNSPECIFIED"):  # noqa: SIM118  # no dictionary
        raise _bad(f"{where}.role must be system, developer, user, assistant or tool")
    try:
        return ParseDict({**given, "role": f"ROLE_{role}"}, message_pb2.Message())
    except (ParseError, RecursionError) as error:
        raise _bad(f"{where}: {error}") from None


def _bad(message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint="--file")
