from __future__ import annotations

import pytest
from google.protobuf.struct_pb2 import Struct

from kit.errors import Invalid
from kit.storable import check_message, check_object, check_texts


def test_texts_without_nul_are_in_order() -> None:
    check_texts([("user", "Zoë \U0001f600 \x01"), ("thread", "")])


def test_the_first_text_with_nul_is_named() -> None:
    with pytest.raises(Invalid) as failure:
        check_texts([("user", "fine"), ("thread", "a\0b"), ("source", "\0")])
    assert failure.value.reason == "TEXT_NOT_STORABLE"
    assert [each.field for each in failure.value.violations] == ["thread"]


@pytest.mark.parametrize("text", ["", "{}", '{"a": "b"}', '{"a": "\\\\u0000"}', '{"a": ["\\u0001"]}'])
def test_objects_without_nul_are_in_order(text: str) -> None:
    check_object(text, field="metadata_json", max_bytes=100)


@pytest.mark.parametrize("text", ['{"a": "\\u0000"}', '{"a\\u0000": 1}', '{"a": [{"b": ["\\u0000"]}]}'])
def test_nul_is_found_wherever_it_hides_in_json(text: str) -> None:
    with pytest.raises(Invalid) as failure:
        check_object(text, field="metadata_json", max_bytes=100)
    assert failure.value.reason == "TEXT_NOT_STORABLE"
    assert [each.field for each in failure.value.violations] == ["metadata_json"]


def test_what_is_no_object_or_too_long_is_refused() -> None:
    with pytest.raises(Invalid):
        check_object("[]", field="metadata_json", max_bytes=100)
    with pytest.raises(Invalid):
        check_object('{"a": "' + "x" * 100 + '"}', field="metadata_json", max_bytes=100)


def test_every_text_of_a_message_with_nul_is_named_wherever_it_is() -> None:
    check_message(Struct())
    message = Struct()
    message.update({"fine": "x", "list": ["a", "b\0"], "inner": {"text": "\0"}})
    with pytest.raises(Invalid) as failure:
        check_message(message.fields["list"].list_value)
    assert failure.value.reason == "TEXT_NOT_STORABLE"
    assert [each.field for each in failure.value.violations] == ["values[1].string_value"]
    with pytest.raises(Invalid) as failure:
        check_message(message.fields["inner"].struct_value.fields["text"])
    assert [each.field for each in failure.value.violations] == ["string_value"]
