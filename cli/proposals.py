"""What the shell proposes when Tab is pressed: names that the server has. It never fails and never waits long."""

from __future__ import annotations

import contextlib
import io
from typing import Any, Final

import typer

from cli.client import Client, from_surroundings
from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub

TIMEOUT_SECONDS: Final = 0.8
"""A person waits for it at every Tab."""
_MAX_PROPOSED: Final = 200


def deployments(context: typer.Context, incomplete: str) -> list[str]:
    """Names of deployments that begin so."""
    return [each.rpartition("/")[2] for each in _names(context) if each.rpartition("/")[2].startswith(incomplete)]


def aliases(context: typer.Context, incomplete: str) -> list[str]:
    """Aliases that begin so, of the deployment that the command names."""
    # Behind an option whose value is what is asked for, what stood before it is not assigned yet.
    named = str(context.params.get("deployment") or next(iter(context.args), ""))
    if named:
        with _quietly():
            client = _client(context)
            request = pb.GetDeploymentRequest(name=f"{client.parent}/deployments/{named}")
            deployment = DeploymentServiceStub(client.channel("registry")).GetDeployment(
                request, timeout=TIMEOUT_SECONDS
            )
            return [each.alias for each in deployment.aliases if each.alias.startswith(incomplete)]
    return []


def _names(context: typer.Context) -> list[str]:
    with _quietly():
        client = _client(context)
        request = pb.ListDeploymentsRequest(parent=client.parent, page_size=_MAX_PROPOSED)
        answer = DeploymentServiceStub(client.channel("registry")).ListDeployments(request, timeout=TIMEOUT_SECONDS)
        return [each.name for each in answer.deployments]
    return []


def _client(context: typer.Context) -> Client:
    """As the callback would make it, which does not run while the shell completes."""
    given: dict[str, Any] = context.find_root().params
    words = {name: str(given.get(name) or "") for name in ("address", "api_key", "project")}
    return from_surroundings(**words, as_json=True)


class _quietly(contextlib.suppress):  # noqa: N801  # reads as what it does
    """Whatever goes wrong, the shell gets no proposal and no text."""

    def __init__(self) -> None:
        super().__init__(Exception)
        self._stderr = contextlib.redirect_stderr(io.StringIO())

    def __enter__(self) -> None:
        self._stderr.__enter__()

    def __exit__(self, *error: Any) -> bool:
        self._stderr.__exit__(*error)
        return super().__exit__(*error)
