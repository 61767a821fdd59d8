from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import ids


@given(st.integers(min_value=0, max_value=2**128 - 1))
def test_decoding_undoes_encoding(value: int) -> None:
    assert ids.decode(ids.encode(value)) == value


@given(st.integers(min_value=0, max_value=2**128 - 1), st.integers(min_value=0, max_value=2**128 - 1))
def test_text_sorts_as_the_numbers_do(first: int, second: int) -> None:
    assert (ids.encode(first) < ids.encode(second)) == (first < second)


@given(st.text(max_size=40))
def test_decoding_any_text_gives_a_number_or_a_value_error(text: str) -> None:
    try:
        assert ids.encode(ids.decode(text)) == text
    except ValueError:
        return


def test_uids_of_one_process_strictly_increase() -> None:
    made = [ids.uuid7() for _ in range(20_000)]

    assert made == sorted(set(made))


def test_a_uid_is_a_version_7_uuid_and_knows_its_time() -> None:
    value = ids.uuid7()

    assert value >> 76 & 0xF == 7
    assert value >> 62 & 0b11 == 0b10
    assert ids.time_ms_of(f"req_{ids.encode(value)}") == value >> 80


@pytest.mark.parametrize(
    "name",
    ["dep_01k", "travel-assistant", "dep_", "DEP_01m805sv1je0faf8cxt0zw1nbg", "dep_01m805sv1je0faf8cxt0zw1nbg\n", ""],
)
def test_names_are_not_uids(name: str) -> None:
    assert not ids.is_uid(name)


def test_a_new_uid_is_one() -> None:
    assert ids.is_uid(ids.new_uid("dep"))
