"""What comes back from the room, for tests to compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
from google.rpc import status_pb2

from kit.status import DETAILS_KEY
from recommenders.artifact import open_artifact
from recommenders.scoring import Query


def details(failure: grpc.aio.AioRpcError, kind: Any) -> Any:
    """The detail of a status that is of this kind."""
    for key, value in failure.trailing_metadata() or ():
        if key == DETAILS_KEY:
            assert isinstance(value, bytes)
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Is(kind.DESCRIPTOR):
                    return kind.FromString(detail.value)
    raise AssertionError(f"no {kind.__name__} in {failure!r}")


def items_of(response: Any) -> list[tuple[str, float, str]]:
    return [(item.item_id, item.score, item.title) for item in response.items]


def said_by(folder: Path, user_id: str, limit: int = 10, *, include_seen: bool = False) -> list[tuple[str, float, str]]:
    """What the model itself answers."""
    [answer] = open_artifact(folder).recommend([Query(user_id, limit, include_seen)])
    return [(item.item_id, item.score, item.title) for item in answer.items]
