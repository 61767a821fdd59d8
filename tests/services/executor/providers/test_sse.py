from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.executor.providers.sse import Events, TooLarge

STREAM = b": hello\r\ndata: one\r\n\r\nevent: x\nid: 7\ndata:two\ndata: lines\n\n\ndata: \n\ndata:  spaced\n\n"
EXPECTED = [b"one", b"two\nlines", b" spaced"]


def fed(*chunks: bytes, limit: int = 1000) -> list[bytes]:
    events = Events(limit)
    return [data for chunk in chunks for data in events.feed(chunk)] + list(events.end())


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_events_are_the_same_wherever_chunks_end(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert fed(*(STREAM[a:b] for a, b in itertools.pairwise(edges))) == EXPECTED


def test_an_event_of_nothing_is_none() -> None:
    assert fed(b"data: one\n\ndata:\n\n", b"event: ping\ndata: \n\ndata: two\n\n") == [b"one", b"two"]


def test_an_error_in_a_field_of_its_own_is_data() -> None:
    assert fed(b'error: {"code":400}\r\n\r\ndata: [DONE]\n\n') == [b'{"error": {"code":400}}', b"[DONE]"]
    with pytest.raises(TooLarge):
        fed(b"error: " + b"x" * 100 + b"\n\n", limit=50)


def test_a_last_event_without_its_blank_line_counts() -> None:
    assert fed(b"data: one\n\ndata: two") == [b"one", b"two"]


EVENT = b"data: " + b"x" * 50 + b"\r\ndata:" + b"y" * 50 + b"\n\n"


@given(cut=st.integers(0, len(EVENT)), limit=st.integers(90, 120))
def test_an_event_is_bounded_wherever_chunks_end(cut: int, limit: int) -> None:
    chunks, size = (b"data: 1\n\n", EVENT[:cut], EVENT[cut:]), len(EVENT) - len(b"\n\n\n")
    if limit >= size:
        assert fed(*chunks, limit=limit) == [b"1", b"x" * 50 + b"\n" + b"y" * 50]
    else:
        with pytest.raises(TooLarge):
            fed(*chunks, limit=limit)


def test_an_event_that_does_not_end_is_refused_and_what_came_before_it_is_not() -> None:
    events = Events(100)
    fed = events.feed(b"data: one\n\ndata: " + b"x" * 100)
    assert next(fed) == b"one"
    with pytest.raises(TooLarge):
        next(fed)


def test_lines_of_nothing_fill_neither_memory_nor_time() -> None:
    begun = time.process_time()
    with pytest.raises(TooLarge):
        fed(*[b"data:\n" * 10_000] * 100, limit=3 << 20)
    assert time.process_time() - begun < 2


def test_an_event_in_small_chunks_takes_no_longer() -> None:
    begun = time.process_time()
    assert fed(b"data: ", *[b"x" * 100] * 20_000, b"\n\n", limit=3 << 20) == [b"x" * 2_000_000]
    assert time.process_time() - begun < 2


def test_signs_of_life_without_end_are_no_event() -> None:
    assert fed(*[b": still here\n"] * 100, b"data: one\n\n", limit=100) == [b"one"]
