"""The forms in which a version says how its answers look."""

from __future__ import annotations

from dataclasses import dataclass

from kit.errors import Invalid, Violation
from kit.json import Json

PATH = "response_format"
SCHEMA_PATH = "response_format.schema"


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """How answers look."""

    form: str
    """`text`, `json_object` or `json_schema`."""
    schema: Json = None
    """For `json_schema`; True when the answer's schema is not given."""


TEXT = ResponseFormat("text")


def response_format_of(given: Json) -> ResponseFormat:
    """Read OpenAI's shape: nothing or `{"type":"text"}`, `{"type":"json_object"}`, or `{"type":"json_schema",
    "json_schema":{"name":…,"schema":{…},"strict":…}}`. Name, description and strictness say nothing about the answer.

    :raises Invalid: `RESPONSE_FORMAT_MALFORMED`
    """
    if given is None:
        return TEXT
    if not isinstance(given, dict):
        raise _malformed(PATH, "must be an object with a type")
    form = given.get("type")
    if form == "text":
        return TEXT
    if form == "json_object":
        return ResponseFormat(form)
    if form != "json_schema":
        raise _malformed(f"{PATH}.type", "must be text, json_object or json_schema")
    inner = given.get("json_schema")
    if not isinstance(inner, dict):
        raise _malformed(f"{PATH}.json_schema", "must be an object with name and schema")
    schema = inner.get("schema")
    return ResponseFormat(form, True if schema is None else schema)


def _malformed(path: str, message: str) -> Invalid:
    return Invalid(f"{path} {message}", reason="RESPONSE_FORMAT_MALFORMED", violations=(Violation(path, message),))
