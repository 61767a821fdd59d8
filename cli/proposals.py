"""What the shell proposes when Tab is pressed: names that the server has. It never fails and never waits long."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from typing import Any, Final

import grpc
import typer

from cli import names
from cli.client import Client, from_surroundings
from kit.errors import AppError
from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub

TIMEOUT_SECONDS: Final = 0.8
"""A person waits for it at every Tab."""
_MAX_PROPOSED: Final = 200
_PAGE: Final = 200


def deployments(context: typer.Context, incomplete: str) -> list[str]:
    """Names of deployments that begin so."""
    found: list[str] = []
    with _quietly():
        client = _client(context)
        stub, ends_at = DeploymentServiceStub(client.channel("registry")), time.monotonic() + TIMEOUT_SECONDS
        request = pb.ListDeploymentsRequest(parent=client.parent, page_size=_PAGE, order_by="name")
        while (left := ends_at - time.monotonic()) > 0 and len(found) < _MAX_PROPOSED:
            answer = stub.ListDeployments(request, timeout=left)
            names = [each.name.rpartition("/")[2] for each in answer.deployments]
            found += [name for name in names if name.startswith(incomplete)]
            request.page_token = answer.next_page_token
            # They are in the order of names: behind those that begin so there are no more.
            if not request.page_token or names[-1][: len(incomplete)] > incomplete:
                break
    return found[:_MAX_PROPOSED]


def aliases(context: typer.Context, incomplete: str) -> list[str]:
    """Aliases that begin so, of the deployment that the command names."""
    # Behind an option whose value is what is asked for, what stood before it is not assigned yet.
    named = str(context.params.get("deployment") or next(iter(context.args), ""))
    if named:
        with _quietly():
            client = _client(context)
            request = pb.GetDeploymentRequest(name=names.deployment(client, named).full)
            deployment = DeploymentServiceStub(client.channel("registry")).GetDeployment(
                request, timeout=TIMEOUT_SECONDS
            )
            return [each.alias for each in deployment.aliases if each.alias.startswith(incomplete)]
    return []


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
