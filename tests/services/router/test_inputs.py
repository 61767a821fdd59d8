from __future__ import annotations

import pytest

from kit.errors import Invalid
from services.router import inputs
from services.router.domain import Unit


def test_a_context_is_an_object_or_nothing() -> None:
    assert inputs.check_context("", "c") == {}
    assert inputs.check_context('{"a": [1]}', "c") == {"a": [1]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "JSON_MALFORMED"),
        ("[]", "JSON_NOT_OBJECT"),
        ('{"a":"' + "x" * (16 << 10) + '"}', "JSON_TOO_LARGE"),
        ('{"a":' + "[" * 16 + "]" * 16 + "}", "JSON_TOO_DEEP"),
        ('{"a":"\\u0000"}', "TEXT_NOT_STORABLE"),
    ],
)
def test_a_wrong_context_is_refused_with_its_path(text: str, reason: str) -> None:
    with pytest.raises(Invalid) as failure:
        inputs.check_context(text, "calls[3].context_json")
    assert failure.value.reason == reason
    assert [violation.field for violation in failure.value.violations] == ["calls[3].context_json"]


@pytest.mark.parametrize("name", ["routing_key", "identity", "thread", "user", "request_id"])
def test_a_text_that_no_log_can_keep_is_refused_with_its_path(name: str) -> None:
    inputs.check_texts(Unit(**{name: "fine"}))
    with pytest.raises(Invalid) as failure:
        inputs.check_texts(Unit(**{name: "\0"}), "calls[1].")
    assert [violation.field for violation in failure.value.violations] == [f"calls[1].{name}"]
