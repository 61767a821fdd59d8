from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.events.pieces import MAX_BYTES, PIECE_BYTES, in_pieces

_EDGES = sorted({0, 1, MAX_BYTES, *(count * PIECE_BYTES for count in range(1, 7))})


@given(st.sampled_from(_EDGES), st.integers(-3, 3))
def test_pieces_are_bounded_and_make_up_the_text_up_to_the_cut(size: int, more: int) -> None:
    text = bytes(index % 251 for index in range(max(0, size + more)))
    found = in_pieces(text)
    assert b"".join(found.pieces) == text[:MAX_BYTES]
    assert all(len(piece) == PIECE_BYTES for piece in found.pieces[:-1])
    assert len(found.pieces[-1]) <= PIECE_BYTES
    assert found.truncated is (len(text) > MAX_BYTES)


@pytest.mark.parametrize("text", [b"", b"x"])
def test_a_short_text_is_one_piece(text: bytes) -> None:
    assert in_pieces(text).pieces == (text,)
