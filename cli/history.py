"""`turnout deployments history|diff|rollback|alias|archive|unarchive`: what deployments were, and going back to it."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import names, output, pages, proposals, writes
from cli.changes import waiting
from cli.client import Client, failures_for_people
from turnout.registry.v1 import deployment_pb2, revision_pb2
from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub

Deployment = Annotated[str, typer.Argument(help="Its name or uid.", autocompletion=proposals.deployments)]


def history(context: typer.Context, deployment: Deployment, limit: pages.Limit = 100) -> None:
    """Show a deployment's revisions, newest first."""
    client: Client = context.obj
    with failures_for_people():
        stub, full = _stub(client), names.deployment(client, deployment).full

        def page(token: str) -> tuple[list[revision_pb2.Revision], str]:
            request = pb.ListRevisionsRequest(parent=full, page_token=token)
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
                output.listed([f"{variant.slug} {variant.weight:g}" for variant in revision.variants]),
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
    before: Annotated[
        str, typer.Argument(help="A revision's number, or an alias.", autocompletion=proposals.revisions)
    ],
    after: Annotated[
        str, typer.Argument(help="Another.", autocompletion=proposals.revisions, show_default="live")
    ] = "",
) -> None:
    """Show in what two revisions differ.

    Examples: turnout deployments diff guide 1.0; turnout deployments diff guide live staging
    """
    client: Client = context.obj
    with failures_for_people():
        named = names.deployment(client, deployment)
        after = named.alias_or(after, hint="after")
        request = pb.CompareRevisionsRequest(name=named.full, before=before, after=after)
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
    revision: Annotated[
        str, typer.Argument(help="The number of the revision to repeat.", autocompletion=proposals.revisions)
    ],
    alias: writes.Alias = "",
    draft: writes.Draft = False,
    bump: writes.Bumped = None,
    description: writes.Description = "",
    retain_contract: writes.RetainContract = False,
    dry_run: writes.DryRun = False,
) -> None:
    """Make a new revision equal to an earlier one; variants come back with those whom they served.

    Example: turnout deployments rollback guide 1.4 --description "too long answers"
    """
    client: Client = context.obj
    with failures_for_people():
        named = names.deployment(client, deployment)
        moved = named.alias_or(alias)
        request = pb.RollbackDeploymentRequest(
            name=named.full,
            revision=revision,
            alias=moved,
            validate_only=dry_run,
            draft=draft,
            bump=writes.bump(bump),
            description=description,
            retain_contract=retain_contract,
        )
        before = writes.tops(client, named.full, moved) if draft and not dry_run else None
        changed = _stub(client).RollbackDeployment(request)
        number = None if before is None else writes.draft_since(client, named.full, moved, before)
    tell(client, changed, draft=number, alias=moved, dry_run=dry_run)


def alias(
    context: typer.Context,
    deployment: Deployment,
    name: Annotated[str, typer.Argument(help="The alias, such as staging.", autocompletion=proposals.aliases)],
    revision: Annotated[
        str,
        typer.Argument(
            help="A revision's number, or another alias. Empty with --delete.", autocompletion=proposals.revisions
        ),
    ] = "",
    delete: Annotated[bool, typer.Option("--delete", help="Remove the alias.")] = False,
    description: Annotated[str, typer.Option(help="What for, for whoever is to approve it.")] = "",
    retain_contract: writes.RetainContract = False,
    dry_run: writes.DryRun = False,
) -> None:
    """Point an alias to a revision, or remove it. This publishes a draft, too.

    Examples: turnout deployments alias guide staging 1.4; turnout deployments alias guide live staging;
    turnout deployments alias guide staging --delete
    """
    client: Client = context.obj
    if delete == bool(revision):
        raise typer.BadParameter("give a revision to point to, or --delete", param_hint="revision")
    if delete and dry_run:
        raise typer.BadParameter("does not go with --delete", param_hint="--dry-run")
    with failures_for_people():
        stub, full = _stub(client), names.deployment(client, deployment).whole()
        if delete:
            tell(client, stub.DeleteAlias(pb.DeleteAliasRequest(name=full, alias=name)))
        else:
            request = pb.SetAliasRequest(
                name=full,
                alias=name,
                revision=revision,
                validate_only=dry_run,
                retain_contract=retain_contract,
                description=description,
            )
            tell(client, stub.SetAlias(request), dry_run=dry_run)


def archive(context: typer.Context, deployment: Deployment) -> None:
    """Take a deployment out of service; calls to it fail, its name stays taken."""
    client: Client = context.obj
    with failures_for_people():
        full = names.deployment(client, deployment).whole()
        tell(client, _stub(client).ArchiveDeployment(pb.ArchiveDeploymentRequest(name=full)))


def unarchive(context: typer.Context, deployment: Deployment) -> None:
    """Bring an archived deployment back into service."""
    client: Client = context.obj
    with failures_for_people():
        full = names.deployment(client, deployment).whole()
        tell(client, _stub(client).UnarchiveDeployment(pb.UnarchiveDeploymentRequest(name=full)))


def _stub(client: Client) -> DeploymentServiceStub:
    return DeploymentServiceStub(client.channel("registry"))


def tell(
    client: Client,
    changed: deployment_pb2.Deployment,
    *,
    draft: str | None = None,
    alias: str = names.LIVE,
    dry_run: bool = False,
) -> None:
    """What a write to a deployment came to.

    :param draft: the number of the draft that it made, empty if nothing was different; None if it was to make none
    :param alias: the one that a draft is for
    """
    if client.as_json:
        output.as_json(changed, **({"draft": draft} if draft else {}))
        return
    output.warnings(changed.warnings)
    if changed.change_request:
        waiting(changed.name, changed.change_request)
        return
    pointers = ", ".join(f"{each.alias} → {each.revision}" for each in changed.aliases)
    marks = ", protected" if changed.protected else ""
    state = f"{changed.name}: {'archived' if changed.archived else pointers}{marks}"
    if dry_run:
        output.say(f"{state}: so it would be; nothing was changed")
    elif draft is not None:
        writes.tell_draft(changed.name.rpartition("/")[2], alias, draft)
    else:
        output.say(state)
