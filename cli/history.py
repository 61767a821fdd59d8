"""`turnout deployments history|diff|rollback|alias|archive`: what deployments were, and going back to it."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import output, pages, proposals
from cli.changes import waiting
from cli.client import Client, failures_for_people
from turnout.registry.v1 import deployment_pb2, revision_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub

Deployment = Annotated[str, typer.Argument(help="Its name or uid.", autocompletion=proposals.deployments)]
Alias = Annotated[str, typer.Option(help="The alias that moves.", autocompletion=proposals.aliases)]
RetainContract = Annotated[
    bool, typer.Option("--retain-contract", help="Let variables go that callers may still send.")
]


def history(context: typer.Context, deployment: Deployment, limit: pages.Limit = 100) -> None:
    """Show a deployment's revisions, newest first."""
    client: Client = context.obj
    with failures_for_people():
        stub = _stub(client)

        def page(token: str) -> tuple[list[revision_pb2.Revision], str]:
            request = pb.ListRevisionsRequest(parent=_name(client, deployment), page_token=token)
            answer = stub.ListRevisions(request)
            return list(answer.revisions), answer.next_page_token

        found = pages.walk(page, limit)
    if client.as_json:
        output.as_json(found)
        return
    output.table(
        ["revision", "of", "aliases", "variants", "made", "by", "what for"],
        [
            (
                revision.number + (" (draft)" if revision.draft else ""),
                revision.parent or "–",
                ", ".join(revision.aliases),
                ", ".join(f"{variant.slug} {variant.weight:g}" for variant in revision.variants),
                revision.create_time.ToJsonString(),
                revision.author.rpartition("/")[2],
                revision.description,
            )
            for revision in found
        ],
    )


def diff(
    context: typer.Context,
    deployment: Deployment,
    before: Annotated[str, typer.Argument(help="A revision's number, or an alias.")],
    after: Annotated[str, typer.Argument(help="Another.")] = "live",
) -> None:
    """Show in what two revisions differ."""
    client: Client = context.obj
    with failures_for_people():
        request = pb.CompareRevisionsRequest(name=_name(client, deployment), before=before, after=after)
        answer = _stub(client).CompareRevisions(request)
    if client.as_json:
        output.as_json(answer)
        return
    for difference in answer.differences:
        output.say(difference.sentence)
    if not answer.differences:
        output.say("they are equal")


def rollback(
    context: typer.Context,
    deployment: Deployment,
    revision: Annotated[str, typer.Argument(help="The number of the revision to repeat.")],
    alias: Alias = "live",
    description: Annotated[str, typer.Option(help="What for.")] = "",
    retain_contract: RetainContract = False,
) -> None:
    """Make a new revision equal to an earlier one; variants come back with those whom they served."""
    client: Client = context.obj
    with failures_for_people():
        request = pb.RollbackDeploymentRequest(
            name=_name(client, deployment),
            revision=revision,
            alias=alias,
            description=description,
            retain_contract=retain_contract,
        )
        tell(client, _stub(client).RollbackDeployment(request))


def alias(
    context: typer.Context,
    deployment: Deployment,
    name: Annotated[str, typer.Argument(help="The alias, such as staging.", autocompletion=proposals.aliases)],
    revision: Annotated[str, typer.Argument(help="A revision's number, or another alias. Empty with --delete.")] = "",
    delete: Annotated[bool, typer.Option("--delete", help="Remove the alias.")] = False,
    retain_contract: RetainContract = False,
) -> None:
    """Point an alias to a revision, or remove it. This publishes a draft, too."""
    client: Client = context.obj
    if delete == bool(revision):
        raise typer.BadParameter("give a revision to point to, or --delete", param_hint="revision")
    with failures_for_people():
        stub, full = _stub(client), _name(client, deployment)
        if delete:
            tell(client, stub.DeleteAlias(pb.DeleteAliasRequest(name=full, alias=name)))
        else:
            request = pb.SetAliasRequest(name=full, alias=name, revision=revision, retain_contract=retain_contract)
            tell(client, stub.SetAlias(request))


def archive(
    context: typer.Context,
    deployment: Deployment,
    undo: Annotated[bool, typer.Option("--undo", help="Bring it back.")] = False,
) -> None:
    """Take a deployment out of service; calls to it fail, its name stays taken."""
    client: Client = context.obj
    with failures_for_people():
        stub, full = _stub(client), _name(client, deployment)
        if undo:
            tell(client, stub.UnarchiveDeployment(pb.UnarchiveDeploymentRequest(name=full)))
        else:
            tell(client, stub.ArchiveDeployment(pb.ArchiveDeploymentRequest(name=full)))


def _stub(client: Client) -> DeploymentServiceStub:
    return DeploymentServiceStub(client.channel("registry"))


def _name(client: Client, deployment: str) -> str:
    return f"{client.parent}/deployments/{deployment}"


def tell(client: Client, changed: deployment_pb2.Deployment) -> None:
    """What a write to a deployment came to."""
    if client.as_json:
        output.as_json(changed)
        return
    output.warnings(changed.warnings)
    if changed.change_request:
        waiting(changed.name, changed.change_request)
        return
    pointers = ", ".join(f"{each.alias} → {each.revision}" for each in changed.aliases)
    marks = ", protected" if changed.protected else ""
    output.say(f"{changed.name}: {'archived' if changed.archived else pointers}{marks}")
