"""`turnout deployments`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import typer

from cli import (
    compatibility,
    history,
    names,
    output,
    pages,
    proposals,
    routing,
    serving,
    snippets,
    trying,
    variants,
    writes,
)
from cli.apply import export
from cli.client import Client, failures_for_people
from cli.program import program
from cli.variants import Deployment
from kit.errors import NotFound
from turnout.registry.v1 import deployment_pb2 as pb
from turnout.registry.v1 import deployment_service_pb2 as service_pb
from turnout.registry.v1 import version_pb2, version_service_pb2
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from turnout.registry.v1.version_service_pb2_grpc import VersionServiceStub

_SLOTS: Final = "Trained models"

app = typer.Typer(help="The stable names that programs call, and the variants behind them.", no_args_is_help=True)


@app.command("list")
def list_deployments(
    context: typer.Context,
    words: Annotated[
        str,
        typer.Option(
            "--filter",
            help="Words that must all occur, whole, in part or nearly, in names, texts, providers, models or prompts.",
        ),
    ] = "",
    order_by: Annotated[
        str,
        typer.Option(
            help="name, provider, model, create_time or update_time; with ' desc' behind it the other way.",
            autocompletion=proposals.orders,
        ),
    ] = "",
    archived: Annotated[bool, typer.Option("--archived", help="Archived ones too.")] = False,
    limit: pages.Limit = 100,
) -> None:
    """Show a project's deployments.

    Example: turnout deployments list --filter "checkout gpt-4o" --order-by "update_time desc"
    """
    client: Client = context.obj
    with failures_for_people():
        stub = DeploymentServiceStub(client.channel("registry"))

        def page(token: str) -> tuple[list[pb.Deployment], str]:
            answer = stub.ListDeployments(
                service_pb.ListDeploymentsRequest(
                    parent=client.parent,
                    filter=words,
                    order_by=order_by,
                    page_token=token,
                    show_archived=archived,
                )
            )
            return list(answer.deployments), answer.next_page_token

        found = pages.walk(page, limit)
    if client.as_json:
        output.as_json(found)
        return
    if not found:
        output.aside(_nothing(words, archived=archived))
    output.table(
        ["deployment", "revision", "variants", "created"],
        [
            (
                d.name.rpartition("/")[2] + (" (archived)" if d.archived else ""),
                d.revision,
                output.listed(_split(d)),
                d.create_time.ToJsonString(),
            )
            for d in found
        ],
    )


@app.command()
def show(context: typer.Context, deployment: Deployment) -> None:
    """Show one deployment with its variants, its rules, its aliases and what callers rely on.

    With an alias behind its name, its variants and rules are those of that alias.

    Examples: turnout deployments show guide; turnout deployments show guide:staging
    """
    client: Client = context.obj
    with failures_for_people():
        named = names.deployment(client, deployment)
        stub = DeploymentServiceStub(client.channel("registry"))
        found = stub.GetDeployment(service_pb.GetDeploymentRequest(name=named.full))
        if named.alias and named.alias not in (there := [each.alias for each in found.aliases]):
            raise NotFound(
                f"there is no alias {named.alias}; there are {output.listed(there) or 'none'}", reason="ALIAS_NOT_FOUND"
            )
        if named.alias and named.alias != names.LIVE:
            request = service_pb.GetRevisionRequest(name=f"{named.full}/revisions/{named.alias}")
            revision = stub.GetRevision(request)
            found.revision = revision.number
            del found.variants[:], found.warnings[:]
            found.variants.extend(revision.variants)
            found.ClearField("routing")
            if revision.HasField("routing"):
                found.routing.CopyFrom(revision.routing)
        if named.variant:
            chosen = [each for each in found.variants if named.variant in (each.slug, each.uid, str(each.number))]
            if not chosen:
                slugs = output.listed([each.slug for each in found.variants]) or "none"
                raise NotFound(f"there is no variant {named.variant}; there are {slugs}", reason="VARIANT_NOT_FOUND")
            del found.variants[:]
            found.variants.extend(chosen)
        versions = _versions(client, named.parent, found.variants)
    if client.as_json:
        runs = {uid: {"provider": each.provider, "model": each.model} for uid, each in versions.items()}
        output.as_json(found, **({"versions": runs} if runs else {}))
        return
    output.facts(
        [
            ("name", found.name),
            ("uid", found.uid),
            ("revision", found.revision),
            ("aliases", ", ".join(f"{alias.alias} → {alias.revision}" for alias in found.aliases)),
            *([("protected", "yes: changes wait for approval")] if found.protected else []),
            *([("archived", "yes: calls to it fail")] if found.archived else []),
            ("created", f"{found.create_time.ToJsonString()} by {found.creator}"),
            *(("warning", warning) for warning in found.warnings),
        ]
    )
    output.say("")
    output.table(
        ["variant", "display name", "weight", "active", "serves", "version", "retries", "falls back to"],
        [
            (
                v.slug,
                v.display_name,
                f"{v.weight:g}",
                "yes" if v.active else "no",
                _served(v, versions),
                _made_from(v),
                v.completion.max_retries if v.HasField("completion") else "–",
                trying.told(v.completion),
            )
            for v in found.variants
        ],
        numbers=["weight", "retries"],
    )
    for each in found.variants:
        if each.notes:
            output.say(f"notes of {each.slug}: {each.notes}")
    routing.tell(found.routing)
    compatibility.tell_contracts(found)


@app.command()
def create(
    context: typer.Context,
    deployment_id: Annotated[str, typer.Argument(help="Its name for ever: a-z, 0-9, hyphens and underscores.")],
    slot: Annotated[
        list[str] | None,
        typer.Option(
            help="model=weight: a trained model by number or uid; repeat for several.", rich_help_panel=_SLOTS
        ),
    ] = None,
    provider: serving.Provider = "",
    model: serving.Model = "",
    system: serving.System = "",
    user: serving.User = "",
    file: serving.File = None,
    prompt: serving.Prompt = "",
    temperature: serving.Temperature = None,
    max_output_tokens: serving.MaxOutputTokens = None,
    parameter: serving.Parameters = None,
    retries: trying.Retries = trying.USUAL_RETRIES,
    fallback: trying.Fallbacks = None,
    output_policy: trying.Policy = None,
    skip_model_check: writes.SkipModelCheck = False,
    dry_run: writes.DryRun = False,
    protected: Annotated[
        bool, typer.Option("--protected/--no-protected", help="Changes by others than approvers wait for approval.")
    ] = False,
) -> None:
    """Make a deployment: of one prompt, or of slots for trained models.

    Examples: turnout deployments create helper --provider openai --model gpt-4o --system "Be brief.";
    turnout deployments create guests --provider openai --model gpt-4o --prompt welcome@3;
    turnout deployments create safe --provider openai --model gpt-4o --fallback anthropic/claude-sonnet-4-5;
    turnout deployments create movies --slot 1=90 --slot 2=10
    """
    client: Client = context.obj
    if bool(slot) == bool(provider and model):
        raise typer.BadParameter("give --provider and --model for a prompt, or --slot for trained models")
    content = serving.Content(
        provider, model, system, user, file, prompt, temperature, max_output_tokens, parameter or ()
    )
    kind = pb.DEPLOYMENT_KIND_RECOMMENDATION if slot else pb.DEPLOYMENT_KIND_COMPLETION
    deployment = pb.Deployment(kind=kind, protected=protected)
    if slot:
        deployment.variants.extend(_slot(each) for each in slot)
    else:
        completion = deployment.variants.add().completion
        content.fill(completion)
        trying.set_on(completion, retries=retries, fallbacks=fallback, policy=output_policy)
    with failures_for_people():
        made = DeploymentServiceStub(client.channel("registry")).CreateDeployment(
            service_pb.CreateDeploymentRequest(
                parent=client.parent,
                deployment_id=deployment_id,
                deployment=deployment,
                skip_model_check=skip_model_check,
                validate_only=dry_run,
            )
        )
    if client.as_json:
        output.as_json(made)
        return
    output.warnings(made.warnings)
    if dry_run:
        output.say(f"{made.name} could be created; nothing was changed")
        return
    output.say(f"created {made.name}; try: {program()} {_call(made, deployment_id)}")


app.command()(variants.update)
app.command("create-variant")(variants.create_variant)
app.command("delete-variant")(variants.delete_variant)
app.command()(routing.routing)
for _command in (history.history, history.diff, history.rollback, history.alias, history.archive, history.unarchive):
    app.command()(_command)
app.command()(compatibility.check)
app.command()(snippets.snippets)
app.command()(export.export)


def _nothing(words: str, *, archived: bool) -> str:
    """Why a list may be empty, and what to do."""
    if words:
        also = "" if archived else "; --archived looks through archived ones too"
        return f"no deployment has all of the words {words!r}: fewer, or shorter ones, find more{also}"
    return f"there are no deployments yet; to make one: {program()} deployments create --help"


def _slot(text: str) -> pb.Variant:
    model, equals, weight = text.partition("=")
    try:
        variant = pb.Variant(weight=float(weight) if equals else None)
    except ValueError:
        raise typer.BadParameter(f"a slot is written model=weight, not {text!r}", param_hint="--slot") from None
    variant.display_name = f"Model {model}" if model.isdecimal() else ""
    variant.recommendation.model = model
    return variant


def _versions(client: Client, parent: str, variants: Iterable[pb.Variant]) -> dict[str, version_pb2.Version]:
    """What variants run, by version."""
    stub = VersionServiceStub(client.channel("registry"))
    uids = dict.fromkeys(each.completion.version for each in variants if each.completion.version)
    return {
        uid: stub.GetVersion(version_service_pb2.GetVersionRequest(name=f"{parent}/versions/{uid}")) for uid in uids
    }


def _served(variant: pb.Variant, versions: Mapping[str, version_pb2.Version]) -> str:
    version = versions.get(variant.completion.version)
    return f"{version.provider}/{version.model}" if version else variant.recommendation.model


def _made_from(variant: pb.Variant) -> str:
    of = f" from {variant.completion.prompt}" if variant.completion.prompt else ""
    return f"{variant.completion.version}{of}" or "–"


def _split(deployment: pb.Deployment) -> list[str]:
    total = sum(variant.weight for variant in deployment.variants if variant.active)
    shares = [
        f"{variant.slug} {variant.weight / total:.0%}" if variant.active and total else f"{variant.slug} off"
        for variant in deployment.variants
    ]
    rules = sum(rule.active for rule in deployment.routing.rules)
    return [*([f"{rules} rules"] if rules > 1 else ["1 rule"] if rules else []), *shares]


def _call(deployment: pb.Deployment, deployment_id: str) -> str:
    """A command that calls it, with every variable it needs."""
    if deployment.kind == pb.DEPLOYMENT_KIND_RECOMMENDATION:
        return f"recommend {deployment_id} some-user"
    needed: list[str] = []
    for alias in deployment.aliases:
        if alias.alias == names.LIVE and alias.contract.variables_schema_json:
            schema = json.loads(alias.contract.variables_schema_json)
            needed = [str(each) for each in schema.get("required", schema.get("properties", ()))]
    return " ".join([f"run {deployment_id}", *(f"-v {shlex.quote(name)}=…" for name in needed)])
