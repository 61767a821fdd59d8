from __future__ import annotations

import time

import pytest

from services.executor.providers.ndjson import Lines
from services.executor.providers.sse import TooLarge


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_found_wherever_chunks_end(size: int) -> None:
    text = '{"a":1}\n\r\n{"ä":"\\n"}\r\n{"last":true}'.encode()
    lines = Lines(100)
    found = [line for at in range(0, len(text), size) for line in lines.feed(text[at : at + size])]
    assert [*found, *lines.end()] == [b'{"a":1}', '{"ä":"\\n"}'.encode(), b'{"last":true}']


def test_a_line_in_small_chunks_takes_no_longer() -> None:
    lines, begun = Lines(3 << 20), time.process_time()
    assert not [line for _ in range(20_000) for line in lines.feed(b"x" * 100)]
    assert list(lines.feed(b"\n")) == [b"x" * 2_000_000]
    assert time.process_time() - begun < 2


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_is_bounded_whether_it_ends_or_not(end: bytes) -> None:
    lines = Lines(100)
    assert [*lines.feed(b"x" * 100), *lines.feed(b"\n")] == [b"x" * 100]
    fed = lines.feed(b"{}\n" + b"x" * 101 + end)
    assert next(fed) == b"{}"
    with pytest.raises(TooLarge):
        next(fed)
