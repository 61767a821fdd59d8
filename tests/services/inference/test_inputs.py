from __future__ import annotations

from typing import Any

import pytest

from kit.errors import Invalid
from services.inference import inputs
from services.inference.domain import RecommendCall, Source


def call(**fields: Any) -> RecommendCall:
    texts = dict.fromkeys(
        ("deployment", "user_id", "routing_key", "identity", "thread", "metadata_json", "caller_trace_id"), ""
    )
    texts |= dict.fromkeys(("tenant", "key_id", "trace_id"), "")
    return RecommendCall(
        **{**texts, "limit": 0, "include_seen": False, "source": Source.API, "deadline": 1.0, **fields}
    )


@pytest.mark.parametrize("metadata", ["", "{}", '{"a":{"b":[1,2]}}'])
def test_metadata_is_an_object_or_nothing(metadata: str) -> None:
    inputs.check(call(metadata_json=metadata, user_id="é", thread="t"))


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"metadata_json": "{"}, "JSON_MALFORMED", "metadata_json"),
        ({"metadata_json": "[]"}, "JSON_NOT_OBJECT", "metadata_json"),
        ({"metadata_json": '{"a":"' + "x" * (16 << 10) + '"}'}, "JSON_TOO_LARGE", "metadata_json"),
        ({"metadata_json": '{"a":' + "[" * 64 + "]" * 64 + "}"}, "JSON_TOO_DEEP", "metadata_json"),
        ({"metadata_json": '{"a":["\\u0000"]}'}, "TEXT_NOT_STORABLE", "metadata_json"),
        ({"user_id": "a\0"}, "TEXT_NOT_STORABLE", "user_id"),
        ({"identity": "a\0"}, "TEXT_NOT_STORABLE", "identity.id"),
        ({"thread": "a\0"}, "TEXT_NOT_STORABLE", "thread"),
        ({"caller_trace_id": "a\0"}, "TEXT_NOT_STORABLE", "trace_id"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_field(fields: dict[str, str], reason: str, field: str) -> None:
    with pytest.raises(Invalid) as failure:
        inputs.check(call(**fields))
    assert (failure.value.reason, [violation.field for violation in failure.value.violations]) == (reason, [field])
