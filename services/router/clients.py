"""The registry, as the router uses it."""

from __future__ import annotations

from typing import Final

import grpc

from catalog.targets import Target
from catalog.view import Revision
from kit import calls, resource_names, status
from kit.errors import Invalid, NotFound
from services.router import convert
from turnout.registry.v1 import deployment_service_pb2, deployment_service_pb2_grpc

_KEY_HEADERS = ("authorization", "x-api-key")
_NOT_FOUND: Final = "REVISION_NOT_FOUND"
_MAX_NAMED: Final = 5


class RegistryClient:
    """The Registry port on the registry's DeploymentService.

    It is asked with the key of whoever asks us: what they may not read there, they do not learn here.
    """

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: deployment_service_pb2_grpc.DeploymentServiceAsyncStub = (
            deployment_service_pb2_grpc.DeploymentServiceStub(channel)
        )

    async def revision(self, target: Target, segment: str, timeout_seconds: float) -> Revision:
        """As the port says."""
        name = f"projects/{target.project.slug}/deployments/{target.deployment.uid}/revisions/{segment}"
        try:
            resource_names.parse(name, "projects/*/deployments/*/revisions/*", field="revision")
        except Invalid:
            raise _missing(target, segment, name) from None
        request = deployment_service_pb2.GetRevisionRequest(name=name)
        try:
            found = await self._stub.GetRevision(request, metadata=_metadata(), timeout=timeout_seconds)
        except grpc.aio.AioRpcError as failure:
            error = status.from_rpc_error(failure, peer="registry")
            raise (_missing(target, segment, name) if error.reason == _NOT_FOUND else error) from None
        return convert.revision_from_proto(found)


def _missing(target: Target, segment: str, name: str) -> NotFound:
    aliases = list(target.deployment.aliases)
    named = ", ".join(aliases[:_MAX_NAMED]) + (", …" if len(aliases) > _MAX_NAMED else "")
    return NotFound(
        f"the deployment {target.deployment.slug!r} has no revision {segment!r}; give an alias ({named}), a revision's "
        "number such as 1.0, or its uid",
        reason=_NOT_FOUND,
        resource=name,
    )


def _metadata() -> list[tuple[str, str]]:
    served = calls.current()
    keys = [(header, key) for header in _KEY_HEADERS if (key := served.text(header))]
    return [*keys, ("traceparent", served.trace.traceparent())]
