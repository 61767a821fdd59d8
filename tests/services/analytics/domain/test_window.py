from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import Invalid
from services.analytics.domain.rollup import Grain
from services.analytics.domain.window import Span, cover_of, measurable, window_of

HOUR, DAY = Grain.HOUR.us, Grain.DAY.us

moments = st.one_of(
    st.integers(-(10**17), 10**17),
    st.integers(-100, 100).map(lambda n: n * HOUR),
    st.integers(-10, 10).map(lambda n: n * DAY),
    st.integers(-100 * HOUR, 100 * HOUR),
)
windows = st.tuples(moments, moments).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: Span(*pair))


@given(windows)
def test_the_parts_of_a_window_touch_and_fill_it_exactly(window: Span) -> None:
    cover = cover_of(window)

    parts = sorted([*(span for _, span in cover.periods), *cover.edges])
    assert parts[0].start_us == window.start_us
    assert parts[-1].end_us == window.end_us
    assert all(part.start_us < part.end_us for part in parts)
    assert all(one.end_us == other.start_us for one, other in pairwise(parts))


@given(windows)
def test_periods_are_whole_and_edges_are_short(window: Span) -> None:
    cover = cover_of(window)

    for grain, span in cover.periods:
        assert span.start_us % grain.us == span.end_us % grain.us == 0
        if grain is Grain.HOUR and len(cover.periods) > 1:
            assert span.end_us - span.start_us < DAY
    assert all(span.end_us - span.start_us < 2 * HOUR for span in cover.edges)


@given(windows, moments)
def test_a_window_is_widened_only_where_single_requests_are_gone(window: Span, since: int) -> None:
    measured = measurable(window, requests_since_us=since)

    assert measured.start_us <= window.start_us < window.end_us <= measured.end_us
    for edge in cover_of(measured).edges:
        assert edge.start_us >= since or edge.start_us >= Grain.HOUR.floor(since)
    if window.start_us >= since:
        assert measured == window


def test_a_query_without_times_is_about_the_last_thirty_days() -> None:
    assert window_of(None, None, now_us=100 * DAY) == Span(70 * DAY, 100 * DAY)
    assert window_of(None, 50 * DAY, now_us=100 * DAY) == Span(20 * DAY, 50 * DAY)


def test_a_window_that_ends_before_it_starts_is_refused() -> None:
    with pytest.raises(Invalid) as failure:
        window_of(5, 5, now_us=100)

    assert failure.value.reason == "WINDOW_EMPTY"
