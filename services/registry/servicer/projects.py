"""The tenants: RPC in, use case, RPC out."""

from __future__ import annotations

from kit.resource_names import parse
from kit.storable import check_message
from services.registry.application.access import ListRequest
from services.registry.application.projects import Projects
from services.registry.convert import resources
from services.registry.convert.text import write_from_proto
from services.registry.servicer.calling import PROJECT, Context, announced, caller
from turnout.registry.v1 import project_pb2, project_service_pb2, project_service_pb2_grpc


class ProjectServicer(project_service_pb2_grpc.ProjectServiceServicer):
    """The tenants."""

    def __init__(self, projects: Projects) -> None:
        self._projects = projects

    async def CreateProject(
        self, request: project_service_pb2.CreateProjectRequest, context: Context
    ) -> project_pb2.Project:
        check_message(request)
        draft = resources.project_draft(request.project_id, request.project)
        written = await self._projects.create_project(draft, write_from_proto(request))
        return resources.project_to_proto(announced(written))

    async def GetProject(self, request: project_service_pb2.GetProjectRequest, context: Context) -> project_pb2.Project:
        (project,) = parse(request.name, PROJECT, field="name")
        return resources.project_to_proto(await self._projects.get_project(caller(), project))

    async def ListProjects(
        self, request: project_service_pb2.ListProjectsRequest, context: Context
    ) -> project_service_pb2.ListProjectsResponse:
        page = await self._projects.list_projects(caller(), ListRequest(request.page_size, request.page_token))
        return project_service_pb2.ListProjectsResponse(
            projects=map(resources.project_to_proto, page.items), next_page_token=page.next_token
        )
