from __future__ import annotations

import pytest

from services.executor.providers.ndjson import Lines
from services.executor.providers.sse import MAX_EVENT_BYTES, TooLarge


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_found_wherever_chunks_end(size: int) -> None:
    text = '{"a":1}\n\r\n{"ä":"\\n"}\r\n{"last":true}'.encode()
    lines = Lines()
    found = [line for at in range(0, len(text), size) for line in lines.feed(text[at : at + size])]
    assert [*found, *lines.end()] == [b'{"a":1}', '{"ä":"\\n"}'.encode(), b'{"last":true}']


def test_a_line_that_does_not_end_is_refused() -> None:
    lines, quarter = Lines(), b"x" * (MAX_EVENT_BYTES // 4)
    for _ in range(4):
        assert list(lines.feed(quarter)) == []
    with pytest.raises(TooLarge):
        list(lines.feed(quarter))
