"""What a call may bring, checked before it is routed, so that validity never depends on the draw. Pure."""

from __future__ import annotations

from typing import Final

from kit import storable
from services.inference.domain import RecommendCall

MAX_METADATA_BYTES: Final = 16 << 10


def check(call: RecommendCall) -> None:
    """Whether a call's input is in order.

    :raises Invalid: `JSON_…` as `kit.json` says; `TEXT_NOT_STORABLE` as `kit.storable`, for what is kept with the log
    """
    storable.check_object(call.metadata_json, field="metadata_json", max_bytes=MAX_METADATA_BYTES)
    storable.check_texts(
        (
            ("user_id", call.user_id),
            ("identity.id", call.identity),
            ("thread", call.thread),
            ("routing_key", call.routing_key),
            ("trace_id", call.caller_trace_id),
        )
    )
