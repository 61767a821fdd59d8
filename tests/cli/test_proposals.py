"""What the shell proposes, against a registry that answers what a test says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
import typer

from cli import proposals
from turnout.registry.v1 import deployment_pb2, deployment_service_pb2_grpc
from turnout.registry.v1 import deployment_service_pb2 as pb


class Names(deployment_service_pb2_grpc.DeploymentServiceServicer):
    """Lists deployments with these names, in pages of two."""

    def __init__(self) -> None:
        self.names = ["alpha", "beta-1", "beta-2", "beta-3", "gamma", "zeta"]
        self.asked = 0
        self.pause = 0.0

    def ListDeployments(self, request: pb.ListDeploymentsRequest, context: Any) -> pb.ListDeploymentsResponse:
        self.asked += 1
        assert request.order_by == "name"
        if self.asked > 1:
            time.sleep(self.pause)
        begin = int(request.page_token or 0)
        found = [deployment_pb2.Deployment(name=f"{request.parent}/deployments/{each}") for each in self.names]
        token = str(begin + 2) if begin + 2 < len(found) else ""
        return pb.ListDeploymentsResponse(deployments=found[begin : begin + 2], next_page_token=token)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    serving = Names()  # type: ignore[abstract]  # nothing else is asked
    deployment_service_pb2_grpc.add_DeploymentServiceServicer_to_server(serving, server)
    monkeypatch.setenv("TURNOUT_ADDRESS", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    monkeypatch.setenv("TURNOUT_PROJECT", "shop")
    server.start()
    yield serving
    server.stop(0)


@pytest.fixture
def context() -> typer.Context:
    return typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None)))


def test_names_are_proposed_from_all_pages_that_can_have_them(names: Names, context: typer.Context) -> None:
    assert proposals.deployments(context, "beta") == ["beta-1", "beta-2", "beta-3"]
    assert names.asked == 3, "behind gamma nothing begins so"
    assert proposals.deployments(context, "") == names.names


def test_what_there_is_in_time_is_proposed(names: Names, context: typer.Context) -> None:
    names.pause = 1.5
    assert proposals.deployments(context, "") == ["alpha", "beta-1"]


def test_nobody_to_ask_is_no_proposal_and_a_bug_is_no_silence(
    context: typer.Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TURNOUT_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("TURNOUT_PROJECT", "shop")
    assert proposals.deployments(context, "") == []
    monkeypatch.setenv("TURNOUT_API_KEY", "no key")
    assert proposals.deployments(context, "") == []
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(proposals, "from_surroundings", None)
    with pytest.raises(TypeError):
        proposals.deployments(context, "")


def test_a_name_that_is_none_has_no_aliases_to_propose(context: typer.Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOUT_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("TURNOUT_PROJECT", "shop")
    context.params["deployment"] = "guide:"
    assert proposals.aliases(context, "") == []
