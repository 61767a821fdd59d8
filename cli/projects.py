"""`turnout projects`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output, pages
from cli.client import Client, failures_for_people
from turnout.registry.v1 import project_pb2, project_service_pb2
from turnout.registry.v1.project_service_pb2_grpc import ProjectServiceStub

app = typer.Typer(
    help="Tenants: each has deployments, keys and statistics of its own. Making one needs a platform key.",
    no_args_is_help=True,
)


@app.command("list")
def list_projects(context: typer.Context, limit: pages.Limit = 100) -> None:
    """Show the projects that the key may see."""
    client: Client = context.obj
    with failures_for_people():
        stub = ProjectServiceStub(client.channel("registry"))

        def page(token: str) -> tuple[list[project_pb2.Project], str]:
            answer = stub.ListProjects(project_service_pb2.ListProjectsRequest(page_token=token))
            return list(answer.projects), answer.next_page_token

        found = pages.walk(page, limit)
    if client.as_json:
        output.as_json(found)
        return
    output.table(
        ["project", "number", "display name", "created"],
        [(p.name.removeprefix("projects/"), p.number, p.display_name, p.create_time.ToJsonString()) for p in found],
        numbers=["number"],
    )


@app.command()
def create(
    context: typer.Context,
    project_id: Annotated[str, typer.Argument(help="Its name for ever: a-z, 0-9 and hyphens.")],
    display_name: Annotated[str, typer.Option(help="Free text for people.")] = "",
) -> None:
    """Make a tenant."""
    client: Client = context.obj
    with failures_for_people():
        project = ProjectServiceStub(client.channel("registry")).CreateProject(
            project_service_pb2.CreateProjectRequest(
                project_id=project_id, project=project_pb2.Project(display_name=display_name)
            )
        )
    if client.as_json:
        output.as_json(project)
        return
    output.say(f"created {project.name}")
