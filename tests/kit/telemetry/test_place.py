from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.telemetry import TraceContext, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_traceparent_is_read_and_written_as_the_w3c_says() -> None:
    place = parse_traceparent(f"00-{TRACE}-{SPAN}-01")

    assert place == TraceContext(TRACE, SPAN, True)
    assert place.traceparent() == f"00-{TRACE}-{SPAN}-01"
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-00-what-comes-later") == TraceContext(TRACE, SPAN, False)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
    ],
)
def test_a_malformed_traceparent_is_as_good_as_none(header: str) -> None:
    assert parse_traceparent(header) is None


@given(st.text())
def test_no_text_breaks_the_reading_of_a_traceparent(header: str) -> None:
    parse_traceparent(header)
