from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.answers import AnswerReader, BadAnswer, StreamReader, content_of

WITH_LENGTH = b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 11\r\n\r\nhello world"
IN_CHUNKS = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    b"6\r\nhello \r\n5;some=thing\r\nworld\r\n0\r\nTrailer: y\r\n\r\n"
)
EMPTY = b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [(WITH_LENGTH, 200, b"hello world"), (IN_CHUNKS, 200, b"hello world"), (EMPTY, 204, b"")],
)
@given(cuts=st.lists(st.integers(1, 120), max_size=12))
def test_an_answer_is_read_however_it_is_cut(answer: bytes, status: int, body: bytes, cuts: list[int]) -> None:
    reader, read = AnswerReader(), b""
    edges = [0, *sorted({cut for cut in cuts if cut < len(answer)}), len(answer)]
    for begin, end in itertools.pairwise(edges):
        assert not reader.is_complete
        read += reader.feed(answer[begin:end])

    assert (reader.is_complete, reader.status, read) == (True, status, body)


def test_answers_of_one_connection_are_read_one_after_the_other() -> None:
    reader = AnswerReader()
    for answer in (IN_CHUNKS, WITH_LENGTH, IN_CHUNKS):
        reader.start()
        assert reader.feed(answer) == b"hello world"
        assert reader.is_complete


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "does not say how long"),
        (b"HTTP/1.1 200 OK\r\nx-content-length: 3\r\n\r\nabc", "does not say how long"),
        (WITH_LENGTH + b"!", "behind the end"),
        (IN_CHUNKS + b"!", "behind the last chunk"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "no size of a chunk"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabcd\r\n", "longer than it says"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000, "head without an end"),
    ],
)
def test_what_is_no_answer_is_refused(answer: bytes, says: str) -> None:
    with pytest.raises(BadAnswer, match=says):
        AnswerReader().feed(answer)


def test_nothing_may_come_that_was_not_asked_for() -> None:
    reader = AnswerReader()
    reader.feed(WITH_LENGTH)

    with pytest.raises(BadAnswer, match="more came"):
        reader.feed(WITH_LENGTH)


def test_the_content_of_an_answer_is_that_of_its_first_choice() -> None:
    assert content_of(200, b'{"choices":[{"message":{"content":"Paris"}}]}') == "Paris"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b'{"choices":[{"message":{"content":"Paris"}}]}'),
        (200, b'{"choices":[{"message":{"content":""}}]}'),
        (200, b'{"choices":[{"message":{"content":null}}]}'),
        (200, b'{"choices":[]}'),
        (200, b"[]"),
        (200, b"{"),
        (200, b""),
    ],
)
def test_an_answer_without_a_200_and_a_choice_is_refused(status: int, body: bytes) -> None:
    with pytest.raises(BadAnswer):
        content_of(status, body)


def event(delta: dict[str, str] | None) -> bytes:
    choices = [{"index": 0, "delta": delta}] if delta is not None else []
    return b"data: " + json.dumps({"choices": choices}).encode() + b"\n\n"


STREAM = event({"role": "assistant", "content": ""}) + event({"content": "a"}) + event({"content": "b"}) + event({})
STREAM += event(None) + b"data: [DONE]\n\n"


@given(cut=st.integers(0, len(STREAM)))
def test_a_stream_is_its_pieces_however_it_is_cut(cut: int) -> None:
    reader = StreamReader()
    reader.feed(STREAM[:cut])
    reader.feed(STREAM[cut:])

    assert reader.pieces == ["a", "b"]
    reader.check(2)


@pytest.mark.parametrize(("stream", "pieces"), [(STREAM, 3), (STREAM[:-14], 2), (STREAM[:-1], 2)])
def test_a_stream_that_lost_something_is_refused(stream: bytes, pieces: int) -> None:
    reader = StreamReader()
    reader.feed(stream)

    with pytest.raises(BadAnswer, match="a stream"):
        reader.check(pieces)


@pytest.mark.parametrize("more", [b'data: {"error":{"message":"no"}}\n\n', b": comment\n\n", b"data: {\n\n", STREAM])
def test_an_event_that_is_no_piece_is_refused(more: bytes) -> None:
    reader = StreamReader()
    reader.feed(STREAM if more is STREAM else b"")

    with pytest.raises(BadAnswer, match="an event"):
        reader.feed(more)
