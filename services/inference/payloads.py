"""What was recommended in a call, as JSON text in pieces that the event stream can carry. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import orjson

from services.inference.domain import Recommendation

MAX_BYTES: Final = 1 << 20
"""What is longer is cut."""
PIECE_BYTES: Final = 192 << 10


@dataclass(frozen=True, slots=True)
class Payload:
    """What was recommended, one JSON object unless cut."""

    pieces: tuple[bytes, ...] = field(repr=False)
    truncated: bool


def payload(recommendation: Recommendation) -> Payload:
    """The items of an answer; none if there was no answer."""
    answer = recommendation.answer
    items = [] if answer is None else [{"item_id": item.item_id, "score": item.score} for item in answer.items]
    text = orjson.dumps({"items": items})
    kept = min(len(text), MAX_BYTES)
    pieces = tuple(text[start : min(start + PIECE_BYTES, kept)] for start in range(0, kept, PIECE_BYTES))
    return Payload(pieces, truncated=len(text) > MAX_BYTES)
