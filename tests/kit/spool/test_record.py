"""Frames: read back as written, and honest about what cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import ids
from kit.errors import Invalid
from kit.spool.record import (
    Call,
    Event,
    FlawedError,
    encode_events,
    encode_start,
    frames,
    id_text,
    lost_id,
    new_id,
    records_of,
    start_payload_of,
    time_ms_of,
)

LIMIT = 1 << 20

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
events = st.builds(Event, text, st.binary(max_size=200), st.dictionaries(text, text, max_size=3))


@given(st.lists(events, max_size=5))
def test_events_are_read_as_they_were_written(written: list[Event]) -> None:
    identified = [(new_id(), event) for event in written]
    data = encode_events(Call(new_id()), identified, LIMIT)

    (frame,) = frames(data, 8, 8 + len(data))

    records = records_of(frame)
    assert [(r.subject, r.payload, r.headers) for r in records] == [(e.subject, e.payload, e.headers) for e in written]
    assert [record.id for record in records] == [id_text(raw_id) for raw_id, _ in identified]


@given(st.binary(max_size=200))
def test_a_start_is_read_as_it_was_written_and_holds_no_records(payload: bytes) -> None:
    data = encode_start(Call(new_id()), payload, LIMIT)

    (frame,) = frames(data, 8, 8 + len(data))

    assert start_payload_of(frame) == payload
    assert records_of(frame) == []


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=4), st.data())
def test_a_tail_cut_anywhere_is_torn_and_all_before_it_is_read(payloads: list[bytes], data: st.DataObject) -> None:
    encoded = [encode_start(Call(new_id()), payload, LIMIT) for payload in payloads]
    cut = data.draw(st.integers(1, len(encoded[-1]) - 1))
    content = b"".join(encoded)[:-cut]
    following = frames(content, 8, 8 + len(content))

    assert [start_payload_of(next(following)) for _ in payloads[:-1]] == payloads[:-1]
    with pytest.raises(FlawedError) as flaw:
        next(following)
    assert flaw.value.is_torn


@given(st.data())
def test_a_changed_bit_before_the_last_frame_is_damage_not_a_torn_tail(data: st.DataObject) -> None:
    encoded = [encode_start(Call(new_id()), b"payload", LIMIT) for _ in range(3)]
    content = bytearray(b"".join(encoded))
    bit = data.draw(st.integers(0, len(encoded[0] + encoded[1]) * 8 - 1))
    content[bit // 8] ^= 1 << bit % 8

    with pytest.raises(FlawedError) as flaw:
        list(frames(bytes(content), 8, 8 + len(content)))

    assert not flaw.value.is_torn


def test_zeros_that_a_power_cut_left_are_a_torn_tail() -> None:
    content = encode_start(Call(new_id()), b"payload", LIMIT)

    with pytest.raises(FlawedError) as flaw:
        list(frames(content + bytes(100), 8, 8 + len(content) + 100))

    assert flaw.value.is_torn
    assert flaw.value.offset == 8 + len(content)


def test_a_frame_of_an_unknown_kind_is_damage() -> None:
    content = bytearray(encode_start(Call(new_id()), b"", LIMIT))
    (frame,) = frames(bytes(content), 8, 8 + len(content))

    with pytest.raises(FlawedError):
        records_of(frame._replace(body=b"\x09" + frame.body[1:]))


@given(st.lists(events, min_size=1, max_size=3), st.integers(min_value=1))
def test_events_that_reach_past_their_frame_are_damage(written: list[Event], missing: int) -> None:
    data = encode_events(None, [(new_id(), event) for event in written], LIMIT)
    (frame,) = frames(data, 8, 8 + len(data))
    kept = len(frame.body) - 1 - missing % (len(frame.body) - 1)

    with pytest.raises(FlawedError):
        records_of(frame._replace(body=frame.body[:kept]))


def test_a_record_past_the_limit_is_invalid() -> None:
    with pytest.raises(Invalid) as failure:
        encode_events(None, [(new_id(), Event("subject", bytes(1000)))], 1000)

    assert failure.value.reason == "RECORD_TOO_LARGE"


@given(st.integers(0, (1 << 128) - 1))
def test_the_id_of_a_lost_call_is_a_stable_uuid7_of_its_time(start: int) -> None:
    call = Call(start.to_bytes(16))

    lost = lost_id(call)

    assert lost == lost_id(call) != call
    assert time_ms_of(lost) == time_ms_of(call) == ids.time_ms_of(id_text(lost))
    assert lost[6] >> 4 == 7
    assert lost[8] >> 6 == 0b10
