"""What a call may bring, checked before it is routed, so that validity never depends on the draw. Pure."""

from __future__ import annotations

from typing import Final

from kit import json
from kit.errors import Invalid, Violation
from kit.json import Json
from services.inference.domain import RecommendCall

MAX_METADATA_BYTES: Final = 16 << 10


def check(call: RecommendCall) -> None:
    """Whether a call's input is in order.

    :raises Invalid: `JSON_…` as `kit.json` says, or `TEXT_NOT_STORABLE` for the NUL character in what is kept with the
        log, which no database could hold
    """
    if call.metadata_json:
        metadata = json.parse_object(call.metadata_json, field="metadata_json", max_bytes=MAX_METADATA_BYTES)
        if "\\u0000" in call.metadata_json and _holds_nul(metadata):
            raise _not_storable("metadata_json")
    for name, text in (
        ("user_id", call.user_id),
        ("identity.id", call.identity),
        ("thread", call.thread),
        ("trace_id", call.caller_trace_id),
    ):
        if "\0" in text:
            raise _not_storable(name)


def _holds_nul(value: Json) -> bool:
    if isinstance(value, dict):
        return any("\0" in name or _holds_nul(member) for name, member in value.items())
    if isinstance(value, list):
        return any(_holds_nul(element) for element in value)
    return isinstance(value, str) and "\0" in value


def _not_storable(field: str) -> Invalid:
    violation = Violation(field, "must not contain the NUL character")
    return Invalid(f"{field} {violation.message}", reason="TEXT_NOT_STORABLE", violations=(violation,))
