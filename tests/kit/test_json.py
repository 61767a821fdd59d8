from __future__ import annotations

import time

import pytest

from kit import json
from kit.errors import Invalid


def _reason(text: str | bytes, **limits: int) -> str:
    with pytest.raises(Invalid) as failure:
        json.parse(text, field="variables_json", **limits)
    assert failure.value.violations[0].field == "variables_json"
    return failure.value.reason


def test_numbers_and_key_order_survive() -> None:
    text = '{"b":9007199254740993,"a":1.5,"c":[true,null]}'

    assert json.dump(json.parse(text, field="f")) == text


def test_depth_is_bounded_exactly() -> None:
    assert json.parse("[" * 64 + "]" * 64, field="f")
    assert _reason("[" * 65 + "]" * 65) == "JSON_TOO_DEEP"


def test_brackets_inside_text_are_not_depth() -> None:
    assert json.parse('["' + "[" * 1000 + '"]', field="f") == ["[" * 1000]


@pytest.mark.parametrize("text", ["", "{", "nul", '{"a":}', "[1,]", "\x00", "NaN", '"\\ud800"', "[" * 10_000])
def test_malformed_text_is_refused_with_its_field(text: str) -> None:
    assert _reason(text) == "JSON_MALFORMED"


def test_size_is_bounded_before_parsing() -> None:
    assert _reason('"' + "x" * 100 + '"', max_bytes=100) == "JSON_TOO_LARGE"


def test_only_an_object_is_an_object_and_nothing_is_an_empty_one() -> None:
    assert json.parse_object("", field="f") == {}
    with pytest.raises(Invalid, match="must be a JSON object") as failure:
        json.parse_object("[]", field="f")
    assert failure.value.reason == "JSON_NOT_OBJECT"


def test_a_lone_surrogate_is_refused() -> None:
    assert _reason('"\ud800"') == "JSON_MALFORMED"


def test_a_wide_document_is_checked_quickly() -> None:
    text = json.dump([{"a": [1]}] * 20_000)
    started = time.perf_counter()

    json.parse(text, field="f")

    assert time.perf_counter() - started < 1
