from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from kit import ids
from services.analytics import convert
from services.analytics.convert import Malformed
from services.analytics.domain.request import Outcome
from turnout.events.v1 import request_pb2
from turnout.router.v1 import decision_pb2

EVENT_ID = ids.encode(ids.uuid7())
HELPER = "dep_" + "0" * 25 + "1"


def test_a_request_keeps_what_is_counted_and_the_event_as_it_was(make_event: Any) -> None:
    event = make_event(start_us=1_700_000_000_123_456, cost_usd_micros=0)
    request = convert.request_of(EVENT_ID, event.SerializeToString())

    assert request.start_us == 1_700_000_000_123_456
    assert request.outcome is Outcome.OK
    assert request.latency_us == 250_000
    assert (request.input_tokens, request.output_tokens) == (10, 5)
    assert request.cost_usd_micros == 0
    assert not request.has_unknown_cost
    assert request.packed == event.SerializeToString()
    assert request.day == ids.time_ms_of(EVENT_ID) // 86_400_000


def test_a_price_is_unknown_only_if_something_was_used(make_event: Any) -> None:
    used = convert.request_of(EVENT_ID, make_event().SerializeToString())
    idle = convert.request_of(EVENT_ID, make_event(tokens=None).SerializeToString())

    assert used.has_unknown_cost
    assert used.cost_usd_micros is None
    assert not idle.has_unknown_cost


def test_a_refused_request_is_its_deployments_and_no_variants(make_event: Any) -> None:
    refused = decision_pb2.Decision(deployment=HELPER, rule="rul_1", evaluation=decision_pb2.EVALUATION_MATCHED)
    packed = make_event(variant=None, decision=refused, status=request_pb2.REQUEST_STATUS_ERROR).SerializeToString()

    request = convert.request_of(EVENT_ID, packed)

    assert request.series[1:] == (HELPER, "helper", "", "")
    assert request.packed == packed


def test_a_lost_request_has_no_latency(make_event: Any) -> None:
    lost = make_event(status=request_pb2.REQUEST_STATUS_LOST, latency_us=0)

    assert convert.request_of(EVENT_ID, lost.SerializeToString()).latency_us is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"project": ""}, "NAME_MALFORMED"),
        ({"deployment": ("dep", "a\0b")}, "NAME_MALFORMED"),
        ({"variant": ("v" * 300, "v")}, "NAME_MALFORMED"),
        ({"status": 0}, "STATUS_UNKNOWN"),
        ({"status": 99}, "STATUS_UNKNOWN"),
        ({"request_id": "one"}, "REQUEST_ID_MALFORMED"),
        ({"latency_us": -1}, "NUMBER_OUT_OF_RANGE"),
        ({"cost_usd_micros": 1 << 60}, "NUMBER_OUT_OF_RANGE"),
        ({"tokens": (1 << 60, 0)}, "NUMBER_OUT_OF_RANGE"),
    ],
)
def test_an_event_that_would_spoil_the_totals_is_malformed(
    make_event: Any, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Malformed, match=reason):
        convert.request_of(EVENT_ID, make_event(**fields).SerializeToString())


def test_events_without_id_or_start_or_sense_are_malformed(make_event: Any) -> None:
    event = make_event()
    with pytest.raises(Malformed, match="EVENT_ID_MALFORMED"):
        convert.request_of("", event.SerializeToString())
    with pytest.raises(Malformed, match="EVENT_UNREADABLE"):
        convert.request_of(EVENT_ID, b"\xff\xff")
    event.ClearField("start_time")
    with pytest.raises(Malformed, match="START_TIME_MALFORMED"):
        convert.request_of(EVENT_ID, event.SerializeToString())


@given(st.binary(max_size=300))
def test_bytes_of_any_kind_are_an_event_or_malformed(packed: bytes) -> None:
    for convert_bytes in (convert.request_of, convert.piece_of):
        with suppress(Malformed):
            convert_bytes(EVENT_ID, packed)


@pytest.mark.parametrize(("index", "count"), [(1, 1), (-1, 1), (0, 0), (0, 1 << 20)])
def test_a_piece_that_is_not_one_of_its_count_is_malformed(index: int, count: int) -> None:
    piece = request_pb2.RequestPayload(request_id=ids.new_uid("req"), project="prj_1", index=index, count=count)

    with pytest.raises(Malformed, match="NUMBER_OUT_OF_RANGE"):
        convert.piece_of(EVENT_ID, piece.SerializeToString())


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))
def test_moments_survive_the_wire(moment_us: int) -> None:
    assert convert.us_of(convert.timestamp_of(moment_us)) == moment_us


def test_what_is_finer_than_a_microsecond_is_cut() -> None:
    assert convert.us_of(Timestamp(seconds=1, nanos=1_999)) == 1_000_001
