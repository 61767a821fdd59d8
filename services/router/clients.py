"""The registry, as the router uses it."""

from __future__ import annotations

import grpc

from catalog.targets import Target
from catalog.view import Revision
from kit import calls, resource_names, status
from kit.errors import Invalid, NotFound
from services.router import convert
from turnout.registry.v1 import deployment_service_pb2, deployment_service_pb2_grpc

_KEY_HEADERS = ("authorization", "x-api-key")


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
            raise NotFound(
                f"the deployment {target.deployment.slug!r} has no revision {segment!r}",
                reason="REVISION_NOT_FOUND",
                resource=name,
            ) from None
        request = deployment_service_pb2.GetRevisionRequest(name=name)
        try:
            found = await self._stub.GetRevision(request, metadata=_metadata(), timeout=timeout_seconds)
        except grpc.aio.AioRpcError as failure:
            raise status.from_rpc_error(failure, peer="registry") from None
        return convert.revision_from_proto(found)


def _metadata() -> list[tuple[str, str]]:
    served = calls.current()
    keys = [(header, key) for header in _KEY_HEADERS if (key := served.text(header))]
    return [*keys, ("traceparent", served.trace.traceparent())]
