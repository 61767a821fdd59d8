"""What a call may bring, checked before it is routed, so that validity never depends on the draw. Pure."""

from __future__ import annotations

from typing import Final

from kit import json, storable
from kit.json import Json
from services.executor.domain import RunCall

MAX_VARIABLES_BYTES: Final = 256 << 10
MAX_METADATA_BYTES: Final = 16 << 10


def check(call: RunCall) -> dict[str, Json]:
    """The variables of a call whose input is in order.

    :raises Invalid: `JSON_…` as `kit.json` says; `TEXT_NOT_STORABLE` as `kit.storable`, for what is kept with the log
    """
    variables = json.parse_object(call.variables_json, field="variables_json", max_bytes=MAX_VARIABLES_BYTES)
    storable.check_object(call.metadata_json, field="metadata_json", max_bytes=MAX_METADATA_BYTES)
    storable.check_texts(
        (
            ("identity.id", call.identity),
            ("thread", call.thread),
            ("user", call.user),
            ("trace_id", call.caller_trace_id),
        )
    )
    return variables
