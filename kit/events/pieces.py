"""A long text in pieces that the event stream can carry, each in an event of its own. Pure."""

from __future__ import annotations

from typing import ClassVar, Final

from kit.values import Value

MAX_BYTES: Final = 1 << 20
"""What is longer is cut."""
PIECE_BYTES: Final = 192 << 10


class Pieces(Value):
    """A text, at most `PIECE_BYTES` a piece, in order."""

    hidden: ClassVar = frozenset(("pieces",))

    pieces: tuple[bytes, ...]
    truncated: bool
    """Whether the text was longer than `MAX_BYTES`, so that its end is missing."""


def in_pieces(text: bytes) -> Pieces:
    """The text, cut."""
    if len(text) <= PIECE_BYTES:
        return Pieces((text,), truncated=False)
    kept = min(len(text), MAX_BYTES)
    pieces = tuple(text[start : min(start + PIECE_BYTES, kept)] for start in range(0, kept, PIECE_BYTES))
    return Pieces(pieces, truncated=len(text) > MAX_BYTES)
