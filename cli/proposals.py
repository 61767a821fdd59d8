"""What the shell proposes when Tab is pressed: names that the server has. It never fails and never waits long.

Each function is asked with what was typed of a name, and answers whole names, some with what people call them.
"""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import grpc
import typer

from catalog.keys import PROJECT_SCOPES
from cli import names
from cli.client import Client, from_surroundings
from kit.errors import AppError
from turnout.registry.v1 import (
    api_key_service_pb2,
    change_request_pb2,
    change_request_service_pb2,
    deployment_pb2,
    model_service_pb2,
    project_service_pb2,
    prompt_service_pb2,
    provider_service_pb2,
)
from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1.api_key_service_pb2_grpc import ApiKeyServiceStub
from turnout.registry.v1.change_request_service_pb2_grpc import ChangeRequestServiceStub
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from turnout.registry.v1.model_service_pb2_grpc import ModelServiceStub
from turnout.registry.v1.project_service_pb2_grpc import ProjectServiceStub
from turnout.registry.v1.prompt_service_pb2_grpc import PromptServiceStub
from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceStub

TIMEOUT_SECONDS: Final = 0.8
"""A person waits for it at every Tab."""
_MAX_PROPOSED: Final = 200
_PAGE: Final = 200

_MAX_SHOWN: Final = 60
_NOT_PLAIN: Final = re.compile(r"[^\w .,+#/@%-]")

Proposal: TypeAlias = tuple[str, str]
"""A name, and what a person calls it, which some shells show beside it; empty if that says no more."""
Page: TypeAlias = Callable[[Client, str, float], tuple[Sequence[Proposal], str]]
"""Asks for a page: with whom, the page token, the seconds left; answers what is on it, and the next token."""


def deployments(context: typer.Context, incomplete: str) -> list[Proposal]:
    """Deployments."""
    return _listed(context, incomplete, _deployments(context, {}), is_ordered=True)


def targets(context: typer.Context, incomplete: str) -> list[Proposal]:
    """What is called: deployments; once there is but one, its aliases too. Both before the colon is typed: bash would
    begin a new word behind it."""
    slug, _, _ = incomplete.partition(":")
    aliases: dict[str, list[Proposal]] = {}
    found = _listed(context, slug, _deployments(context, aliases), is_ordered=True)
    exact = [each for each in found if each[0] == slug]
    if len(named := exact or found) == 1:
        found = [*found, *aliases[named[0][0]]]
    return [each for each in found if each[0].startswith(incomplete)]


def aliases(context: typer.Context, incomplete: str) -> list[Proposal]:
    """Aliases of the deployment that the command names."""
    found = _deployment(context)
    return _beginning(incomplete, ((each.alias, each.revision) for each in found.aliases) if found else ())


def revisions(context: typer.Context, incomplete: str) -> list[Proposal]:
    """Aliases and revisions of the deployment that the command names; the newest revisions first."""
    named = _named(context)

    def page(client: Client, token: str, seconds: float) -> tuple[list[Proposal], str]:
        request = pb.ListRevisionsRequest(parent=names.deployment(client, named).full, page_token=token)
        answer = DeploymentServiceStub(client.channel("registry")).ListRevisions(request, timeout=seconds)
        aliases = [(alias, each.number) for each in answer.revisions for alias in each.aliases]
        numbers = [(each.number, _plain(each.description)) for each in answer.revisions]
        return [*aliases, *numbers], answer.next_page_token

    return _listed(context, incomplete, page) if named else []


def projects(context: typer.Context, incomplete: str) -> list[Proposal]:
    """Projects that the key may see."""

    def page(client: Client, token: str, seconds: float) -> tuple[list[Proposal], str]:
        request = project_service_pb2.ListProjectsRequest(page_size=_PAGE, page_token=token)
        answer = ProjectServiceStub(client.channel("registry")).ListProjects(request, timeout=seconds)
        return [_called(each.name, each.display_name) for each in answer.projects], answer.next_page_token

    return _listed(context, incomplete, page)


def scopes(incomplete: str) -> list[str]:
    """What keys may do."""
    return [each for each in sorted(PROJECT_SCOPES) if each.startswith(incomplete)]


def orders(incomplete: str) -> list[str]:
    """What lists of deployments can be ordered by."""
    return [each for each in ("name", "provider", "model", "create_time", "update_time") if each.startswith(incomplete)]


def variants(context: typer.Context, incomplete: str) -> list[Proposal]:
    """Variants of the deployment that the command names."""
    found = _deployment(context)
    return _beginning(incomplete, ((each.slug, _plain(each.display_name)) for each in found.variants) if found else ())


def providers(context: typer.Context, incomplete: str) -> list[Proposal]:
    """Providers; what is archived only where it is brought back."""
    back = _brings_back(context)

    def page(client: Client, token: str, seconds: float) -> tuple[list[Proposal], str]:
        request = provider_service_pb2.ListProvidersRequest(
            parent=client.parent, page_size=_PAGE, page_token=token, show_archived=back
        )
        answer = ProviderServiceStub(client.channel("registry")).ListProviders(request, timeout=seconds)
        there = [_called(each.name, each.display_name) for each in answer.providers if each.archived == back]
        return there, answer.next_page_token

    return _listed(context, incomplete, page)


def prompts(context: typer.Context, incomplete: str) -> list[Proposal]:
    """Prompts; what is archived only where it is brought back."""
    back = _brings_back(context)

    def page(client: Client, token: str, seconds: float) -> tuple[list[Proposal], str]:
        request = prompt_service_pb2.ListPromptsRequest(
            parent=client.parent, page_size=_PAGE, page_token=token, show_archived=back
        )
        answer = PromptServiceStub(client.channel("registry")).ListPrompts(request, timeout=seconds)
        there = [_called(each.name, each.display_name) for each in answer.prompts if each.archived == back]
        return there, answer.next_page_token

    return _listed(context, incomplete, page)


def models(context: typer.Context, incomplete: str) -> list[Proposal]:
    """Trained models by number, or by uid where one is typed; what is archived only where it is brought back."""
    back = _brings_back(context)

    def page(client: Client, token: str, seconds: float) -> tuple[list[Proposal], str]:
        request = model_service_pb2.ListModelsRequest(
            parent=client.parent, page_size=_PAGE, page_token=token, show_archived=back
        )
        answer = ModelServiceStub(client.channel("registry")).ListModels(request, timeout=seconds)
        there = [each for each in answer.models if each.archived == back]
        by_uid = incomplete.startswith("m")
        shown = [(each.uid if by_uid else str(each.number), _plain(each.display_name)) for each in there]
        return shown, answer.next_page_token

    return _listed(context, incomplete, page)


def keys(context: typer.Context, incomplete: str) -> list[Proposal]:
    """Keys that were not revoked, by their ids."""

    def page(client: Client, token: str, seconds: float) -> tuple[list[Proposal], str]:
        request = api_key_service_pb2.ListApiKeysRequest(parent=client.parent, page_size=_PAGE, page_token=token)
        answer = ApiKeyServiceStub(client.channel("registry")).ListApiKeys(request, timeout=seconds)
        there = [(each.uid, _plain(each.display_name)) for each in answer.api_keys if not each.HasField("revoke_time")]
        return there, answer.next_page_token

    return _listed(context, incomplete, page)


def changes(context: typer.Context, incomplete: str) -> list[Proposal]:
    """Changes that wait for approval; where one is only shown, those that were decided on, too."""
    state = change_request_pb2.CHANGE_REQUEST_STATE_PENDING
    if context.info_name == "show":
        state = change_request_pb2.CHANGE_REQUEST_STATE_UNSPECIFIED

    def page(client: Client, token: str, seconds: float) -> tuple[list[Proposal], str]:
        request = change_request_service_pb2.ListChangeRequestsRequest(
            parent=f"{client.parent}/deployments/-", state=state, page_size=_PAGE, page_token=token
        )
        answer = ChangeRequestServiceStub(client.channel("registry")).ListChangeRequests(request, timeout=seconds)
        found = answer.change_requests
        return [(each.uid, f"{each.name.split('/')[3]} {each.alias}") for each in found], answer.next_page_token

    return _listed(context, incomplete, page)


def _deployments(context: typer.Context, aliases: dict[str, list[Proposal]]) -> Page:
    """:param aliases: gets the whole names with aliases, by deployment"""
    back = _brings_back(context)

    def page(client: Client, token: str, seconds: float) -> tuple[list[Proposal], str]:
        request = pb.ListDeploymentsRequest(
            parent=client.parent, page_size=_PAGE, page_token=token, order_by="name", show_archived=back
        )
        answer = DeploymentServiceStub(client.channel("registry")).ListDeployments(request, timeout=seconds)
        there = [each for each in answer.deployments if each.archived == back]
        for each in there:
            slug = each.name.rpartition("/")[2]
            others = (alias for alias in each.aliases if alias.alias != names.LIVE)
            aliases[slug] = [(f"{slug}:{alias.alias}", alias.revision) for alias in others]
        return [_called(each.name, each.display_name) for each in there], answer.next_page_token

    return page


def _deployment(context: typer.Context) -> deployment_pb2.Deployment | None:
    """The one that the command names."""
    if named := _named(context):
        with _quietly():
            client = _client(context)
            request = pb.GetDeploymentRequest(name=names.deployment(client, named).full)
            return DeploymentServiceStub(client.channel("registry")).GetDeployment(request, timeout=TIMEOUT_SECONDS)
    return None


def _named(context: typer.Context) -> str:
    # Behind an option whose value is what is asked for, what stood before it is not assigned yet.
    return str(context.params.get("deployment") or next(iter(context.args), ""))


def _listed(context: typer.Context, incomplete: str, page: Page, *, is_ordered: bool = False) -> list[Proposal]:
    """Those of all pages that begin so, as far as there is time.

    :param is_ordered: by name, so that behind those that begin so there are no more
    """
    found: list[Proposal] = []
    with _quietly():
        client, token, ends_at = _client(context), "", time.monotonic() + TIMEOUT_SECONDS
        while (left := ends_at - time.monotonic()) > 0 and len(found) < _MAX_PROPOSED:
            there, token = page(client, token, left)
            found += _beginning(incomplete, there)
            if not token or (is_ordered and there and there[-1][0][: len(incomplete)] > incomplete):
                break
    return found[:_MAX_PROPOSED]


def _beginning(incomplete: str, found: Iterable[Proposal]) -> list[Proposal]:
    return [each for each in found if each[0].startswith(incomplete)]


def _called(name: str, display_name: str) -> Proposal:
    slug = name.rpartition("/")[2]
    return slug, "" if display_name == slug else _plain(display_name)


def _plain(display_name: str) -> str:
    """Others chose it, and zsh evaluates what it shows: no sign stays that could mean something to a shell."""
    return _NOT_PLAIN.sub("", display_name)[:_MAX_SHOWN]


def _brings_back(context: typer.Context) -> bool:
    """Whether the command is for what is archived."""
    return context.info_name == "unarchive"


def _client(context: typer.Context) -> Client:
    """As the callback would make it, which does not run while the shell completes."""
    given: dict[str, Any] = context.find_root().params
    words = {name: str(given.get(name) or "") for name in ("address", "api_key", "project")}
    return from_surroundings(**words, as_json=True)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Where there is nobody to ask, or no answer in time, the shell gets what there is and no text."""
    with (
        contextlib.redirect_stderr(io.StringIO()),
        contextlib.suppress(grpc.RpcError, AppError, OSError, typer.BadParameter),
    ):
        yield
