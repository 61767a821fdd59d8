"""What the shell proposes, against a registry that answers what a test says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
import typer

from cli import proposals
from turnout.registry.v1 import (
    api_key_service_pb2,
    api_key_service_pb2_grpc,
    change_request_pb2,
    change_request_service_pb2,
    change_request_service_pb2_grpc,
    deployment_pb2,
    deployment_service_pb2_grpc,
    model_service_pb2,
    model_service_pb2_grpc,
    prompt_service_pb2,
    prompt_service_pb2_grpc,
    provider_service_pb2,
    provider_service_pb2_grpc,
)
from turnout.registry.v1 import deployment_service_pb2 as pb


class Names(
    deployment_service_pb2_grpc.DeploymentServiceServicer,
    provider_service_pb2_grpc.ProviderServiceServicer,
    prompt_service_pb2_grpc.PromptServiceServicer,
    model_service_pb2_grpc.ModelServiceServicer,
    api_key_service_pb2_grpc.ApiKeyServiceServicer,
    change_request_service_pb2_grpc.ChangeRequestServiceServicer,
):
    """Lists deployments with these names, in pages of two; a few of all else, of which one is archived."""

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
        for each in found:
            each.aliases.add(alias="live", revision="2.0")
            each.aliases.add(alias="staging", revision="1.0")
        token = str(begin + 2) if begin + 2 < len(found) else ""
        return pb.ListDeploymentsResponse(deployments=found[begin : begin + 2], next_page_token=token)

    def GetDeployment(self, request: pb.GetDeploymentRequest, context: Any) -> deployment_pb2.Deployment:
        found = deployment_pb2.Deployment(name=request.name)
        found.variants.add(slug="calm", display_name='Calm $(reboot) `x` \\\\ "q": it\'s\n 100 %')
        found.variants.add(slug="lively")
        return found

    def ListRevisions(self, request: pb.ListRevisionsRequest, context: Any) -> pb.ListRevisionsResponse:
        answer = pb.ListRevisionsResponse()
        answer.revisions.add(number="2.0", description="try it", aliases=["live", "staging"])
        answer.revisions.add(number="1.0")
        return answer

    def ListProviders(self, request: Any, context: Any) -> provider_service_pb2.ListProvidersResponse:
        answer = provider_service_pb2.ListProvidersResponse()
        answer.providers.add(name=f"{request.parent}/providers/local", display_name="local")
        if request.show_archived:
            answer.providers.add(name=f"{request.parent}/providers/late", archived=True)
        return answer

    def ListPrompts(self, request: Any, context: Any) -> prompt_service_pb2.ListPromptsResponse:
        answer = prompt_service_pb2.ListPromptsResponse()
        answer.prompts.add(name=f"{request.parent}/prompts/welcome", display_name="Welcome")
        if request.show_archived:
            answer.prompts.add(name=f"{request.parent}/prompts/old", archived=True)
        return answer

    def ListModels(self, request: Any, context: Any) -> model_service_pb2.ListModelsResponse:
        answer = model_service_pb2.ListModelsResponse()
        answer.models.add(number=12, uid="mod_a", display_name="Films")
        if request.show_archived:
            answer.models.add(number=13, uid="mod_b", archived=True)
        return answer

    def ListApiKeys(self, request: Any, context: Any) -> api_key_service_pb2.ListApiKeysResponse:
        answer = api_key_service_pb2.ListApiKeysResponse()
        answer.api_keys.add(uid="4f9k2m7q0x3z", display_name="shop")
        answer.api_keys.add(uid="4revoked").revoke_time.GetCurrentTime()
        return answer

    def ListChangeRequests(self, request: Any, context: Any) -> change_request_service_pb2.ListChangeRequestsResponse:
        answer = change_request_service_pb2.ListChangeRequestsResponse()
        uids = {
            change_request_pb2.CHANGE_REQUEST_STATE_PENDING: "chg_p",
            change_request_pb2.CHANGE_REQUEST_STATE_APPROVED: "chg_a",
        }
        for state, uid in uids.items():
            if request.state in (0, state):
                name = request.parent.replace("-", "guide") + f"/changeRequests/{uid}"
                answer.change_requests.add(name=name, uid=uid, alias="live", state=state)
        return answer


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    serving = Names()  # type: ignore[abstract]  # nothing else is asked
    deployment_service_pb2_grpc.add_DeploymentServiceServicer_to_server(serving, server)
    provider_service_pb2_grpc.add_ProviderServiceServicer_to_server(serving, server)
    prompt_service_pb2_grpc.add_PromptServiceServicer_to_server(serving, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(serving, server)
    api_key_service_pb2_grpc.add_ApiKeyServiceServicer_to_server(serving, server)
    change_request_service_pb2_grpc.add_ChangeRequestServiceServicer_to_server(serving, server)
    monkeypatch.setenv("TURNOUT_ADDRESS", f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    monkeypatch.setenv("TURNOUT_PROJECT", "shop")
    server.start()
    yield serving
    server.stop(0)


def typed(command: str = "show") -> typer.Context:
    """Where a command of this name is being typed."""
    return typer.Context(typer.main.get_command(typer.Typer(callback=lambda: None)), info_name=command)


@pytest.fixture
def context() -> typer.Context:
    return typed()


def shown(proposed: list[proposals.Proposal]) -> list[str]:
    """The names alone."""
    return [name for name, _ in proposed]


def test_names_are_proposed_from_all_pages_that_can_have_them(names: Names, context: typer.Context) -> None:
    assert shown(proposals.deployments(context, "beta")) == ["beta-1", "beta-2", "beta-3"]
    assert names.asked == 3, "behind gamma nothing begins so"
    assert shown(proposals.deployments(context, "")) == names.names


def test_what_there_is_in_time_is_proposed(names: Names, context: typer.Context) -> None:
    names.pause = 1.5
    assert shown(proposals.deployments(context, "")) == ["alpha", "beta-1"]


def test_what_is_called_is_proposed_with_its_aliases_once_it_is_clear(names: Names, context: typer.Context) -> None:
    names.names.insert(0, "al")

    assert shown(proposals.targets(context, "b")) == ["beta-1", "beta-2", "beta-3"]
    assert shown(proposals.targets(context, "g")) == ["gamma", "gamma:staging"]
    assert shown(proposals.targets(context, "al")) == ["al", "alpha", "al:staging"]
    assert shown(proposals.targets(context, "al:")) == ["al:staging"]
    assert shown(proposals.targets(context, "beta-2:s")) == ["beta-2:staging"]
    assert shown(proposals.targets(context, "beta-2:x")) == []


@pytest.mark.parametrize(
    ("proposed", "begin", "wanted", "brought_back"),
    [
        (proposals.providers, "l", [("local", "")], [("late", "")]),
        (proposals.prompts, "", [("welcome", "Welcome")], [("old", "")]),
        (proposals.models, "1", [("12", "Films")], [("13", "")]),
        (proposals.models, "mo", [("mod_a", "Films")], [("mod_b", "")]),
        (proposals.models, "2", [], []),
    ],
)
def test_every_noun_has_its_names_and_what_is_archived_where_it_is_brought_back(
    names: Names,
    proposed: Callable[..., list[proposals.Proposal]],
    begin: str,
    wanted: list[proposals.Proposal],
    brought_back: list[proposals.Proposal],
) -> None:
    assert proposed(typed("update"), begin) == wanted
    assert proposed(typed("unarchive"), begin) == brought_back


def test_keys_that_work_and_changes_that_wait_are_proposed(names: Names) -> None:
    assert proposals.keys(typed("revoke"), "4") == [("4f9k2m7q0x3z", "shop")]
    assert proposals.changes(typed("approve"), "chg") == [("chg_p", "guide live")]
    assert shown(proposals.changes(typed("show"), "chg")) == ["chg_p", "chg_a"]


def test_what_others_named_holds_nothing_that_a_shell_would_evaluate(names: Names, context: typer.Context) -> None:
    context.params["deployment"] = "guide"

    assert proposals.variants(context, "c") == [("calm", "Calm reboot x  q its 100 %")]


def test_revisions_are_proposed_with_the_aliases_that_point_to_them(names: Names, context: typer.Context) -> None:
    assert proposals.revisions(context, "") == []
    context.params["deployment"] = "guide"

    assert proposals.revisions(context, "") == [("live", "2.0"), ("staging", "2.0"), ("2.0", "try it"), ("1.0", "")]
    assert shown(proposals.revisions(context, "1")) == ["1.0"]


def test_what_is_fixed_is_proposed_without_asking() -> None:
    assert proposals.scopes("registry:") == ["registry:read", "registry:write"]
    assert proposals.orders("up") == ["update_time"]


def test_bash_gets_of_an_alias_what_stands_behind_the_colon(names: Names) -> None:
    words = {"COMP_WORDS": "turnout\nrun\nbeta-2\n:\ns", "COMP_CWORD": "4", "_TURNOUT_COMPLETE": "complete_bash"}
    program = "import sys; sys.argv[0] = 'turnout'; from cli.main import main; sys.exit(main())"

    ran = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **words}, capture_output=True, timeout=60, check=False
    )

    assert ran.stdout == b"staging\n", ran.stderr


@pytest.mark.parametrize(
    ("line", "proposed"),
    [
        ("route b", b"beta-1\nbeta-2\nbeta-3\n"),
        ("simulate gamma", b"gamma\ngamma:staging\n"),
        ("simulate gamma --revision ", b"live\nstaging\n2.0\n1.0\n"),
        ("simulate gamma --compare ", b"live\nstaging\n2.0\n1.0\n"),
        ("deployments routing gam", b"gamma\n"),
        ("simulate gamma --po", b"--population\n"),
    ],
)
def test_bash_completes_what_is_routed_and_simulated(names: Names, line: str, proposed: bytes) -> None:
    words = ["turnout", *line.split(" ")]
    typed = {
        "COMP_WORDS": "\n".join(words),
        "COMP_CWORD": str(len(words) - 1),
        "_TURNOUT_COMPLETE": "complete_bash",
    }
    program = "import sys; sys.argv[0] = 'turnout'; from cli.main import main; sys.exit(main())"

    ran = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **typed}, capture_output=True, timeout=60, check=False
    )

    assert ran.stdout == proposed, ran.stderr


def test_nobody_to_ask_is_no_proposal_and_a_bug_is_no_silence(
    context: typer.Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TURNOUT_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("TURNOUT_PROJECT", "shop")
    for each in (proposals.deployments, proposals.targets, proposals.providers, proposals.prompts, proposals.models):
        assert each(context, "") == []
    assert proposals.keys(context, "") == proposals.changes(context, "") == proposals.variants(context, "") == []
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
