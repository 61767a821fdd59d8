"""Services that `turnout route` and `turnout simulate` speak to: over real gRPC, answering what a test says."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from turnout.analytics.v1 import log_service_pb2 as log_pb
from turnout.analytics.v1 import log_service_pb2_grpc as log_rpc
from turnout.events.v1 import request_pb2
from turnout.registry.v1 import model_pb2, model_service_pb2, version_pb2, version_service_pb2
from turnout.registry.v1 import model_service_pb2_grpc as model_rpc
from turnout.registry.v1 import version_service_pb2_grpc as version_rpc
from turnout.router.v1 import decision_pb2
from turnout.router.v1 import routing_service_pb2 as pb
from turnout.router.v1 import routing_service_pb2_grpc as rpc


@dataclass
class Router(rpc.RoutingServiceServicer, log_rpc.LogServiceServicer):
    """Keeps what it is asked; its log has pages of two."""

    route: pb.RouteResponse = field(default_factory=pb.RouteResponse)
    simulated: pb.SimulateResponse = field(default_factory=pb.SimulateResponse)
    logged: list[request_pb2.RequestServed] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)

    def Route(self, request: pb.RouteRequest, context: Any) -> pb.RouteResponse:
        self.requests.append(request)
        return self.route

    def BatchRoute(self, request: pb.BatchRouteRequest, context: Any) -> pb.BatchRouteResponse:
        raise AssertionError("no command asks this")

    def Simulate(self, request: pb.SimulateRequest, context: Any) -> pb.SimulateResponse:
        self.requests.append(request)
        return self.simulated

    def ListLogs(self, request: log_pb.ListLogsRequest, context: Any) -> log_pb.ListLogsResponse:
        self.requests.append(request)
        begin, end = request.start_time.ToNanoseconds(), request.end_time.ToNanoseconds()
        found = [
            each
            for each in self.logged
            if begin <= each.start_time.ToNanoseconds() < (end or math.inf)
            and request.deployment in ("", each.deployment_slug)
        ]
        at = int(request.page_token or 0)
        more = str(at + 2) if at + 2 < len(found) else ""
        logs = [log_pb.Log(request=each) for each in found[at : at + 2]]
        return log_pb.ListLogsResponse(logs=logs, next_page_token=more)


class Registry(version_rpc.VersionServiceServicer, model_rpc.ModelServiceServicer):
    """Has one version and one model."""

    def GetVersion(self, request: version_service_pb2.GetVersionRequest, context: Any) -> version_pb2.Version:
        assert request.name == "projects/shop/versions/ver_1"
        return version_pb2.Version(uid="ver_1", provider="openai", model="gpt-4o")

    def GetModel(self, request: model_service_pb2.GetModelRequest, context: Any) -> model_pb2.Model:
        assert request.name == "projects/shop/models/mod_1"
        return model_pb2.Model(uid="mod_1", number=1, display_name="Taste")


@contextmanager
def serving(router: Router, *, registry: bool = True) -> Iterator[str]:
    """Where it listens.

    :param registry: whether that answers there, too
    """
    server = grpc.server(ThreadPoolExecutor(2))
    rpc.add_RoutingServiceServicer_to_server(router, server)
    log_rpc.add_LogServiceServicer_to_server(router, server)
    if registry:
        has = Registry()  # type: ignore[abstract]  # nothing else is asked
        version_rpc.add_VersionServiceServicer_to_server(has, server)
        model_rpc.add_ModelServiceServicer_to_server(has, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(1).wait()


def decision(**fields: Any) -> decision_pb2.Decision:
    """One by a rule, but for what is given."""
    usual: dict[str, Any] = {
        "deployment": "dep_1",
        "alias": "live",
        "revision": "rev_1",
        "revision_number": "1.3",
        "variant": "var_1",
        "variant_slug": "spanish",
        "evaluation": decision_pb2.EVALUATION_MATCHED,
        "propensity": 0.3,
        "key_kind": decision_pb2.KEY_KIND_ROUTING_KEY,
        "rule": "rul_1",
        "rule_name": "Spanish",
    }
    return decision_pb2.Decision(**(usual | fields))


def trace(**fields: Any) -> pb.Trace:
    """One with every outcome of a rule and every sort of candidate, but for what is given."""
    told = pb.Trace(decision=decision(), key="user-42", coverage=0.8, coverage_draw=0.25, request_id="req_1")
    for name, outcome in (
        ("Off", pb.RULE_OUTCOME_INACTIVE),
        ("English", pb.RULE_OUTCOME_FALSE),
        ("Adults", pb.RULE_OUTCOME_MISSING),
        ("Odd", pb.RULE_OUTCOME_ERROR),
        ("Spanish", pb.RULE_OUTCOME_TRUE),
        ("Rest", pb.RULE_OUTCOME_NOT_REACHED),
    ):
        told.rules.add(rule=f"rul_{name}", display_name=name, condition=f"context.of == '{name}'", outcome=outcome)
    told.rules[1].values.add(field="country", value_json='"ES"')
    told.rules[2].values.add(field="age")
    told.rules[2].values.add(field="since", unfit=True)
    told.rules[2].message = "context.age is missing"
    told.rules[3].message = "division by zero"
    told.candidates.add(
        variant="var_1", variant_slug="spanish", weight=30, active=True, draw=0.75, score=104.3, propensity=0.3
    )
    told.candidates.add(
        variant="var_2", variant_slug="other-spanish", weight=70, active=True, draw=0.125, score=33.7, propensity=0.7
    )
    told.candidates.add(variant="var_3", variant_slug="idle", weight=50, draw=0.5)
    told.candidates.add(variant="var_4", variant_slug="zero", active=True, draw=0.5)
    told.MergeFrom(pb.Trace(**fields))
    return told
