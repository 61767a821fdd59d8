"""`turnout recommend`, against a service that answers what a test says."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from typer.testing import Result

from turnout.inference.v1 import recommendation_service_pb2 as pb
from turnout.inference.v1 import recommendation_service_pb2_grpc as rpc


class Recommends(rpc.RecommendationServiceServicer):
    """One item for everybody."""

    def __init__(self) -> None:
        self.requests: list[pb.RecommendRequest] = []

    def Recommend(self, request: pb.RecommendRequest, context: Any) -> pb.RecommendResponse:
        self.requests.append(request)
        answer = pb.RecommendResponse(model_number=3)
        answer.items.add(item_id="7", title="Seven", score=0.5)
        return answer


def test_what_rules_ask_about_is_sent_along(turnout: Callable[..., Result]) -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    serving = Recommends()  # type: ignore[abstract]  # nothing else is asked
    rpc.add_RecommendationServiceServicer_to_server(serving, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        shown = turnout("recommend", "movies", "42", "--context", "device=tv", "-c", "age=17", TURNOUT_ADDRESS=address)
        turnout("recommend", "movies", "42", TURNOUT_ADDRESS=address)
    finally:
        server.stop(0).wait()

    assert shown.exit_code == 0, shown.stderr
    assert "Seven" in shown.stdout
    assert [each.context_json for each in serving.requests] == ['{"device":"tv","age":17}', ""]
