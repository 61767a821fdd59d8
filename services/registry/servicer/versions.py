"""The completion configurations: RPC in, use case, RPC out."""

from __future__ import annotations

from catalog.configurations import version_from_proto
from kit.resource_names import parse
from kit.storable import check_message
from services.registry.application.access import ListRequest
from services.registry.application.versions import Versions
from services.registry.convert import versions
from services.registry.domain import Version
from services.registry.servicer.calling import PROJECT, Context, announced, caller
from turnout.registry.v1 import version_pb2, version_service_pb2, version_service_pb2_grpc


class VersionServicer(version_service_pb2_grpc.VersionServiceServicer):
    """The completion configurations."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions

    async def PutVersion(self, request: version_service_pb2.PutVersionRequest, context: Context) -> version_pb2.Version:
        check_message(request)
        (project,) = parse(request.parent, PROJECT, field="parent")
        content = version_from_proto(request.version, field="version")
        written = await self._versions.put_version(
            caller(), project, content, is_dry=request.validate_only, skip_model_check=request.skip_model_check
        )
        proto = self._to_proto(announced(written))
        proto.warnings.extend(written.warnings)
        return proto

    async def GetVersion(self, request: version_service_pb2.GetVersionRequest, context: Context) -> version_pb2.Version:
        project, version = parse(request.name, "projects/*/versions/*", field="name")
        return self._to_proto(await self._versions.get_version(caller(), project, version))

    async def ListVersions(
        self, request: version_service_pb2.ListVersionsRequest, context: Context
    ) -> version_service_pb2.ListVersionsResponse:
        (project,) = parse(request.parent, PROJECT, field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        page = await self._versions.list_versions(caller(), project, asked)
        return version_service_pb2.ListVersionsResponse(
            versions=map(self._to_proto, page.items), next_page_token=page.next_token
        )

    def _to_proto(self, version: Version) -> version_pb2.Version:
        return versions.version_to_proto(version, version.expires_at(self._versions.expiry))
