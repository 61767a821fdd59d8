"""`turnout deployments`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output, pages
from cli.client import Client, failures_for_people
from cli.program import program
from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import deployment_pb2 as pb
from turnout.registry.v1 import deployment_service_pb2 as service_pb
from turnout.registry.v1 import version_pb2
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub

app = typer.Typer(help="The stable names, and the variants behind them.", no_args_is_help=True)


@app.command("list")
def list_deployments(context: typer.Context, limit: pages.Limit = 100) -> None:
    """Show a project's deployments."""
    client: Client = context.obj
    with failures_for_people():
        stub = DeploymentServiceStub(client.channel("registry"))

        def page(token: str) -> tuple[list[pb.Deployment], str]:
            answer = stub.ListDeployments(service_pb.ListDeploymentsRequest(parent=client.parent, page_token=token))
            return list(answer.deployments), answer.next_page_token

        found = pages.walk(page, limit)
    if client.as_json:
        output.as_json(found)
        return
    output.table(
        ["deployment", "revision", "variants", "created"],
        [(d.name.rpartition("/")[2], d.revision, _split(d), d.create_time.ToJsonString()) for d in found],
    )


@app.command()
def show(context: typer.Context, deployment: Annotated[str, typer.Argument(help="Its name or uid.")]) -> None:
    """Show one deployment with its variants."""
    client: Client = context.obj
    with failures_for_people():
        found = DeploymentServiceStub(client.channel("registry")).GetDeployment(
            service_pb.GetDeploymentRequest(name=f"{client.parent}/deployments/{deployment}")
        )
    if client.as_json:
        output.as_json(found)
        return
    output.facts(
        [
            ("name", found.name),
            ("uid", found.uid),
            ("revision", found.revision),
            ("aliases", ", ".join(f"{alias.alias} → {alias.revision}" for alias in found.aliases)),
            ("created", f"{found.create_time.ToJsonString()} by {found.creator}"),
            *(("warning", warning) for warning in found.warnings),
        ]
    )
    output.say("")
    output.table(
        ["variant", "display name", "weight", "active", "serves", "retries"],
        [
            (
                v.slug,
                v.display_name,
                f"{v.weight:g}",
                "yes" if v.active else "no",
                v.completion.version or v.recommendation.model,
                v.completion.max_retries if v.HasField("completion") else "–",
            )
            for v in found.variants
        ],
        numbers=["weight", "retries"],
    )


@app.command()
def create(
    context: typer.Context,
    deployment_id: Annotated[str, typer.Argument(help="Its name for ever: a-z, 0-9, hyphens and underscores.")],
    provider: Annotated[str, typer.Option(help="A provider of the project.")],
    model: Annotated[str, typer.Option(help="The provider's name for a model.")],
    system: Annotated[str, typer.Option(help="The system message; `{{ country }}` makes country a variable.")] = "",
    user: Annotated[str, typer.Option(help="A user message behind it, a template too.")] = "",
    temperature: Annotated[float | None, typer.Option(min=0, max=2, help="Default: the provider's.")] = None,
    max_output_tokens: Annotated[
        int | None, typer.Option(min=1, max=2**31 - 1, help="Default: the provider's.")
    ] = None,
    retries: Annotated[int, typer.Option(min=0, max=10, help="How often a failed attempt is repeated.")] = 2,
) -> None:
    """Make a deployment with one variant."""
    client: Client = context.obj
    version = version_pb2.Version(provider=provider, model=model)
    for role, text in ((message_pb2.ROLE_SYSTEM, system), (message_pb2.ROLE_USER, user)):
        if text:
            version.messages.add(role=role, content=text)
    if temperature is not None:
        version.parameters.temperature = temperature
    if max_output_tokens is not None:
        version.parameters.max_output_tokens = max_output_tokens
    deployment = pb.Deployment(
        kind=pb.DEPLOYMENT_KIND_COMPLETION,
        variants=[pb.Variant(completion=pb.CompletionVariant(new_version=version, max_retries=retries))],
    )
    with failures_for_people():
        made = DeploymentServiceStub(client.channel("registry")).CreateDeployment(
            service_pb.CreateDeploymentRequest(parent=client.parent, deployment_id=deployment_id, deployment=deployment)
        )
    if client.as_json:
        output.as_json(made)
        return
    output.say(f"created {made.name}; try: {program()} run {deployment_id}")


def _split(deployment: pb.Deployment) -> str:
    total = sum(variant.weight for variant in deployment.variants if variant.active)
    return ", ".join(
        f"{variant.slug} {variant.weight / total:.0%}" if variant.active and total else f"{variant.slug} off"
        for variant in deployment.variants
    )
