"""What was recommended in a call, as JSON text in pieces that the event stream can carry. Pure."""

from __future__ import annotations

import orjson

from kit.events.pieces import Pieces, in_pieces
from services.inference.domain import Recommendation


def payload(recommendation: Recommendation) -> Pieces:
    """The items of an answer; none if there was no answer."""
    answer = recommendation.answer
    items = [] if answer is None else [{"item_id": item.item_id, "score": item.score} for item in answer.items]
    return in_pieces(orjson.dumps({"items": items}))
