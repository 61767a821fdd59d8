"""`turnout deployments update|create-variant|delete-variant`: what changes a deployment's variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeAlias

import typer

from cli import history, names, output, proposals, serving, trying, writes
from cli.changes import waiting
from cli.client import Client, failures_for_people
from cli.names import Named
from cli.program import program
from turnout.registry.v1 import deployment_pb2 as pb
from turnout.registry.v1 import deployment_service_pb2 as service_pb
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub

_OF_ALL: Final = {"protected"}
"""What is a deployment's and never a variant's."""
_OF_BOTH: Final = {"display_name", "dry_run"}
_HOW: Final = {
    *("context", "deployment", "variant"),
    *("alias", "draft", "bump", "description", "retain_contract", "skip_model_check", "dry_run"),
}
"""What says how to change something, but not what."""


Deployment: TypeAlias = Annotated[
    str, typer.Argument(help="Its name or uid; an alias may stand behind it.", autocompletion=proposals.deployments)
]
Weight: TypeAlias = Annotated[float | None, typer.Option(min=0, max=100, help="Its share, beside the others'.")]
Active: TypeAlias = Annotated[bool | None, typer.Option("--active/--inactive", help="Whether it takes part.")]
Notes: TypeAlias = Annotated[str | None, typer.Option(help="For colleagues; no model sees them.")]


def update(
    context: typer.Context,
    deployment: Deployment,
    variant: Annotated[
        str,
        typer.Argument(
            help="Its slug, uid or number; none to change the deployment itself.",
            autocompletion=proposals.variants,
            show_default=False,
        ),
    ] = "",
    weight: Weight = None,
    active: Active = None,
    display_name: Annotated[
        str | None, typer.Option(help="For people; of the deployment, if no variant is named.")
    ] = None,
    notes: Notes = None,
    unknown_users: serving.Unknown = None,
    provider: serving.Provider = "",
    model: serving.Model = "",
    system: serving.System = "",
    user: serving.User = "",
    file: serving.File = None,
    prompt: serving.Prompt = "",
    temperature: serving.Temperature = None,
    max_output_tokens: serving.MaxOutputTokens = None,
    parameter: serving.Parameters = None,
    retries: trying.Retries = None,
    fallback: trying.Fallbacks = None,
    no_fallbacks: trying.NoFallbacks = False,
    output_policy: trying.Policy = None,
    alias: writes.Alias = "",
    draft: writes.Draft = False,
    bump: writes.Bumped = None,
    description: writes.Description = "",
    retain_contract: writes.RetainContract = False,
    skip_model_check: writes.SkipModelCheck = False,
    dry_run: writes.DryRun = False,
    protected: Annotated[
        bool | None,
        typer.Option("--protected/--no-protected", help="Of the deployment: whether changes wait for approval."),
    ] = None,
) -> None:
    """Change a variant, which makes a new revision; or, without a variant, protect or rename the deployment.

    A new revision is in effect everywhere within moments. What is not named stays as it is; messages are replaced all
    together. Changes of a protected deployment wait for approval, unless the key may approve.

    Examples: turnout deployments update movies model-2 --weight 30;
    turnout deployments update guests variant-1 --model gpt-4o-mini --parameter top_p=0.9 --draft;
    turnout deployments update guests variant-1 --system "Be brief to {{ guest }}.";
    turnout deployments update guests variant-1 --prompt welcome@4;
    turnout deployments update guests variant-1 --fallback anthropic/claude-sonnet-4-5 --fallback local/llama3;
    turnout deployments update guests --protected
    """
    client: Client = context.obj
    given = _given(context)
    with failures_for_people():
        named = names.deployment(client, deployment)
        slug = named.variant_or(variant)
        if not slug:
            _update_deployment(client, named, given, protected=protected, display_name=display_name, dry_run=dry_run)
            return
        _check_of_variant(given, slug)
        if fallback and no_fallbacks:
            raise typer.BadParameter("give --fallback or --no-fallbacks, not both", param_hint="--no-fallbacks")
        content = serving.Content(
            provider, model, system, user, file, prompt, temperature, max_output_tokens, parameter or ()
        )
        tries: dict[str, Any] = {
            "retries": retries,
            "fallbacks": [] if no_fallbacks else fallback,
            "policy": output_policy,
        }
        moved = named.alias_or(alias)
        wanted = pb.Variant(name=f"{named.full}/variants/{slug}", weight=weight, active=active)
        request = service_pb.UpdateVariantRequest(
            alias=moved,
            validate_only=dry_run,
            draft=draft,
            bump=writes.bump(bump),
            description=description,
            retain_contract=retain_contract,
            skip_model_check=skip_model_check,
        )
        for path, text in (("display_name", display_name), ("notes", notes)):
            if text is not None:
                setattr(wanted, path, text)
                request.update_mask.paths.append(path)
        if (
            content != serving.Content()
            or unknown_users is not None
            or any(each is not None for each in tries.values())
        ):
            serving.serve(
                client, named, wanted, serving.as_it_is(client, named, slug, moved), content, tries, unknown_users
            )
        if request.update_mask.paths:
            # An empty text has to be named; then so does all else that has a value.
            has = {field.name for field, _ in wanted.ListFields()}
            others = ("active", "weight", "completion", "recommendation")
            request.update_mask.paths.extend(path for path in others if path in has)
        request.variant.CopyFrom(wanted)
        before = writes.tops(client, named.full, moved) if draft and not dry_run else None
        changed = _stub(client).UpdateVariant(request)
        number = "" if before is None else writes.draft_since(client, named.full, moved, before)
    _tell(client, named, changed, moved, draft=number if before is not None else None, dry_run=dry_run)


def create_variant(
    context: typer.Context,
    deployment: Deployment,
    display_name: Annotated[str, typer.Option(help="For people; its slug follows from it.")] = "",
    like: Annotated[
        str,
        typer.Option(
            help="A variant of the same alias: what is not named is as there.",
            autocompletion=proposals.variants,
            show_default=False,
        ),
    ] = "",
    weight: Weight = None,
    active: Active = None,
    notes: Notes = None,
    unknown_users: serving.Unknown = None,
    provider: serving.Provider = "",
    model: serving.Model = "",
    system: serving.System = "",
    user: serving.User = "",
    file: serving.File = None,
    prompt: serving.Prompt = "",
    temperature: serving.Temperature = None,
    max_output_tokens: serving.MaxOutputTokens = None,
    parameter: serving.Parameters = None,
    retries: trying.Retries = None,
    fallback: trying.Fallbacks = None,
    output_policy: trying.Policy = None,
    alias: writes.Alias = "",
    draft: writes.Draft = False,
    bump: writes.Bumped = None,
    description: writes.Description = "",
    retain_contract: writes.RetainContract = False,
    skip_model_check: writes.SkipModelCheck = False,
    dry_run: writes.DryRun = False,
) -> None:
    """Add a variant, which makes a new revision.

    Of an LLM it begins with weight 0, so that it moves nobody until it is given one.

    Examples: turnout deployments create-variant guide --display-name Small --like variant-1 --model gpt-4o-mini;
    turnout deployments create-variant guide --provider openai --model gpt-4o --system "Be warm." --weight 10;
    turnout deployments create-variant movies --model 3 --weight 5
    """
    client: Client = context.obj
    content = serving.Content(
        provider, model, system, user, file, prompt, temperature, max_output_tokens, parameter or ()
    )
    if not like and not model:
        raise typer.BadParameter(
            "give --provider and --model, or --like, or of a recommender --model", param_hint="--model"
        )
    with failures_for_people():
        named = names.deployment(client, deployment)
        moved = named.alias_or(alias)
        wanted = pb.Variant(display_name=display_name, notes=notes or "", weight=weight, active=active)
        tries: dict[str, Any] = {"retries": retries, "fallbacks": fallback, "policy": output_policy}
        if like:
            former = serving.as_it_is(client, named, named.variant_or(like), moved, hint="--like")
        else:
            former = pb.Variant()
            if provider:
                former.completion.max_retries = trying.USUAL_RETRIES
            else:
                former.recommendation.SetInParent()
        serving.serve(client, named, wanted, former, content, tries, unknown_users)
        # Only an update has to find what it was read from unchanged.
        wanted.ClearField("etag")
        request = service_pb.CreateVariantRequest(
            parent=named.full,
            variant=wanted,
            alias=moved,
            validate_only=dry_run,
            draft=draft,
            bump=writes.bump(bump),
            description=description,
            retain_contract=retain_contract,
            skip_model_check=skip_model_check,
        )
        before = writes.tops(client, named.full, moved) if draft and not dry_run else None
        made = _stub(client).CreateVariant(request)
        number = "" if before is None else writes.draft_since(client, named.full, moved, before)
    _tell(client, named, made, moved, draft=number if before is not None else None, dry_run=dry_run)


def delete_variant(
    context: typer.Context,
    deployment: Deployment,
    variant: Annotated[
        str, typer.Argument(help="Its slug, uid or number.", autocompletion=proposals.variants, show_default=False)
    ] = "",
    alias: writes.Alias = "",
    draft: writes.Draft = False,
    bump: writes.Bumped = None,
    description: writes.Description = "",
    retain_contract: writes.RetainContract = False,
    dry_run: writes.DryRun = False,
) -> None:
    """Take a variant away, which makes a new revision without it.

    Those whom it served are shared out among the others; `rollback` brings it back with them.

    Example: turnout deployments delete-variant guide variant-2
    """
    client: Client = context.obj
    with failures_for_people():
        named = names.deployment(client, deployment)
        slug = named.variant_or(variant)
        if not slug:
            raise typer.BadParameter("name the variant, as in `guide variant-2`", param_hint="variant")
        moved = named.alias_or(alias)
        request = service_pb.DeleteVariantRequest(
            name=f"{named.full}/variants/{slug}",
            alias=moved,
            validate_only=dry_run,
            draft=draft,
            bump=writes.bump(bump),
            description=description,
            retain_contract=retain_contract,
        )
        before = writes.tops(client, named.full, moved) if draft and not dry_run else None
        changed = _stub(client).DeleteVariant(request)
        number = "" if before is None else writes.draft_since(client, named.full, moved, before)
    history.tell(client, changed, draft=number if before is not None else None, alias=moved, dry_run=dry_run)


def _update_deployment(
    client: Client,
    named: Named,
    given: Mapping[str, str],
    *,
    protected: bool | None,
    display_name: str | None,
    dry_run: bool,
) -> None:
    others = [flag for name, flag in given.items() if name not in _OF_ALL | _OF_BOTH | {"deployment", "variant"}]
    if others:
        raise typer.BadParameter(
            f"{', '.join(others)} is for a variant: name it, as in `{program()} deployments update {named.slug} "
            f"variant-1 {others[0]} …`; --protected goes alone",
            param_hint="variant",
        )
    wanted = pb.Deployment(name=named.whole(), protected=protected)
    request = service_pb.UpdateDeploymentRequest(validate_only=dry_run)
    if protected is not None:
        request.update_mask.paths.append("protected")
    if display_name is not None:
        wanted.display_name = display_name
        request.update_mask.paths.append("display_name")
    if not request.update_mask.paths:
        raise typer.BadParameter("give a variant with what to change of it, or --protected, or --display-name")
    request.deployment.CopyFrom(wanted)
    history.tell(client, _stub(client).UpdateDeployment(request), dry_run=dry_run)


def _check_of_variant(given: Mapping[str, str], slug: str) -> None:
    if of_all := [flag for name, flag in given.items() if name in _OF_ALL]:
        raise typer.BadParameter(
            f"{of_all[0]} is for the whole deployment: give it in a command of its own, without {slug}",
            param_hint=of_all[0],
        )
    if not set(given) - _HOW:
        raise typer.BadParameter(
            f"say what to change of {slug}: --weight, --active or --inactive, --display-name, --notes, --model, "
            "--system, --prompt, --parameter, --retries, --fallback, … (--help has all)",
            param_hint="variant",
        )


def _given(context: typer.Context) -> dict[str, str]:
    """The options and arguments that were typed, each with its flag."""
    return {
        str(each.name): each.opts[0]
        for each in context.command.params
        if getattr(context.get_parameter_source(str(each.name)), "name", "") == "COMMANDLINE"
    }


def _stub(client: Client) -> DeploymentServiceStub:
    return DeploymentServiceStub(client.channel("registry"))


def _tell(client: Client, named: Named, changed: pb.Variant, alias: str, *, draft: str | None, dry_run: bool) -> None:
    """What a write came to.

    :param draft: the number of the draft that it made; None if it was to make none
    """
    if client.as_json:
        output.as_json(changed, **({"draft": draft} if draft else {}))
        return
    output.warnings(changed.warnings)
    if changed.change_request:
        waiting(f"variant {changed.slug} of {named.slug}", changed.change_request)
        return
    state = f"{changed.name}: weight {changed.weight:g}, {'active' if changed.active else 'inactive'}"
    if dry_run:
        output.say(f"{state}: so it would be; nothing was changed")
    elif draft is not None:
        writes.tell_draft(named.slug, alias, draft)
    else:
        output.say(state)
