from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.providers.sse import MAX_EVENT_BYTES, Events, TooLarge

STREAM = b": hello\r\ndata: one\r\n\r\nevent: x\nid: 7\ndata:two\ndata: lines\n\n\ndata: \n\ndata:  spaced\n\n"
EXPECTED = [b"one", b"two\nlines", b"", b" spaced"]


def fed(*chunks: bytes) -> list[bytes]:
    events = Events()
    return [data for chunk in chunks for data in events.feed(chunk)] + list(events.end())


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_wherever_chunks_end(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert fed(*(STREAM[a:b] for a, b in itertools.pairwise(edges))) == EXPECTED


def test_a_last_event_without_its_blank_line_counts() -> None:
    assert fed(b"data: one\n\ndata: two") == [b"one", b"two"]


def test_an_event_that_does_not_end_is_refused() -> None:
    with pytest.raises(TooLarge):
        fed(b"data: ", *[b"x" * (1 << 20)] * 5)
    with pytest.raises(TooLarge):
        fed(*[b"data: " + b"x" * (1 << 20) + b"\n"] * (MAX_EVENT_BYTES // (1 << 20) + 1))
