"""`turnout deployments`."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from cli import compatibility, history, output, pages, prompts, proposals, snippets
from cli.apply import export
from cli.changes import waiting
from cli.client import Client, failures_for_people
from cli.program import program
from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import deployment_pb2 as pb
from turnout.registry.v1 import deployment_service_pb2 as service_pb
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub

_PROMPT: Final = "A prompt"
_SLOTS: Final = "Trained models"
Deployment = Annotated[str, typer.Argument(help="Its name or uid.", autocompletion=proposals.deployments)]

app = typer.Typer(help="The stable names, and the variants behind them.", no_args_is_help=True)


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
        typer.Option(help="name, provider, model, create_time or update_time; with ' desc' behind it the other way."),
    ] = "",
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
                    parent=client.parent, filter=words, order_by=order_by, page_token=token
                )
            )
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
def show(context: typer.Context, deployment: Deployment) -> None:
    """Show one deployment with its variants, its aliases and what callers of each rely on.

    Example: turnout deployments show guide
    """
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
            *([("protected", "yes: changes wait for approval")] if found.protected else []),
            *([("archived", "yes: calls to it fail")] if found.archived else []),
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
                _served(v),
                v.completion.max_retries if v.HasField("completion") else "–",
            )
            for v in found.variants
        ],
        numbers=["weight", "retries"],
    )
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
    provider: Annotated[str, typer.Option(help="A provider of the project.", rich_help_panel=_PROMPT)] = "",
    model: Annotated[str, typer.Option(help="The provider's name for a model.", rich_help_panel=_PROMPT)] = "",
    system: Annotated[
        str,
        typer.Option(help="The system message; `{{ country }}` makes country a variable.", rich_help_panel=_PROMPT),
    ] = "",
    user: Annotated[str, typer.Option(help="A user message behind it, a template too.", rich_help_panel=_PROMPT)] = "",
    prompt: Annotated[
        str,
        typer.Option(help="A prompt of the project, such as welcome or welcome@3, instead.", rich_help_panel=_PROMPT),
    ] = "",
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="Default: the provider's.", rich_help_panel=_PROMPT)
    ] = None,
    max_output_tokens: Annotated[
        int | None, typer.Option(min=1, max=2**31 - 1, help="Default: the provider's.", rich_help_panel=_PROMPT)
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, max=10, help="How often a failed attempt is repeated.", rich_help_panel=_PROMPT)
    ] = 2,
    skip_model_check: Annotated[
        bool,
        typer.Option(
            "--skip-model-check", help="Take a model that its provider does not list.", rich_help_panel=_PROMPT
        ),
    ] = False,
    protected: Annotated[
        bool, typer.Option("--protected/--no-protected", help="Changes by others than approvers wait for approval.")
    ] = False,
) -> None:
    """Make a deployment: of one prompt, or of slots for trained models.

    Examples: turnout deployments create helper --provider openai --model gpt-4o --system "Be brief.";
    turnout deployments create guests --provider openai --model gpt-4o --prompt welcome@3;
    turnout deployments create movies --slot 1=90 --slot 2=10
    """
    client: Client = context.obj
    if bool(slot) == bool(provider and model):
        raise typer.BadParameter("give --provider and --model for a prompt, or --slot for trained models")
    if prompt and (system or user):
        raise typer.BadParameter("give --prompt, or --system and --user, and not both", param_hint="--prompt")
    kind = pb.DEPLOYMENT_KIND_RECOMMENDATION if slot else pb.DEPLOYMENT_KIND_COMPLETION
    deployment = pb.Deployment(kind=kind, protected=protected)
    if slot:
        deployment.variants.extend(_slot(each) for each in slot)
    else:
        completion = deployment.variants.add().completion
        completion.max_retries, completion.prompt = retries, prompt
        version = completion.new_version
        version.provider, version.model = provider, model
        for role, text in ((message_pb2.ROLE_SYSTEM, system), (message_pb2.ROLE_USER, user)):
            if text:
                version.messages.add(role=role, content=text)
        if temperature is not None:
            version.parameters.temperature = temperature
        if max_output_tokens is not None:
            version.parameters.max_output_tokens = max_output_tokens
    with failures_for_people():
        made = DeploymentServiceStub(client.channel("registry")).CreateDeployment(
            service_pb.CreateDeploymentRequest(
                parent=client.parent,
                deployment_id=deployment_id,
                deployment=deployment,
                skip_model_check=skip_model_check,
            )
        )
    if client.as_json:
        output.as_json(made)
        return
    call = f"recommend {deployment_id} some-user" if slot else f"run {deployment_id}"
    output.warnings(made.warnings)
    output.say(f"created {made.name}; try: {program()} {call}")


@app.command()
def update(
    context: typer.Context,
    deployment: Deployment,
    variant: Annotated[
        str, typer.Argument(help="The variant's slug, uid or number; none with --protected.", show_default=False)
    ] = "",
    weight: Annotated[float | None, typer.Option(min=0, max=100, help="Its share, beside the others'.")] = None,
    active: Annotated[bool | None, typer.Option("--active/--inactive", help="Whether it takes part.")] = None,
    model: Annotated[str, typer.Option(help="Another trained model, by number or uid.")] = "",
    prompt: Annotated[
        str, typer.Option(help="The messages of a prompt, such as welcome@3; all else stays as it is.")
    ] = "",
    alias: history.Alias = "live",
    draft: Annotated[bool, typer.Option("--draft", help="Make the revision only; `alias` publishes it.")] = False,
    description: Annotated[str, typer.Option(help="What for.")] = "",
    retain_contract: history.RetainContract = False,
    skip_model_check: Annotated[
        bool, typer.Option("--skip-model-check", help="Take a model that its provider does not list.")
    ] = False,
    protected: Annotated[
        bool | None,
        typer.Option("--protected/--no-protected", help="Of the deployment: whether changes wait for approval."),
    ] = None,
) -> None:
    """Change a variant: a new revision, in effect everywhere within moments. Or protect a deployment: then changes wait
    for approval, unless the key may approve.

    Examples: turnout deployments update movies model-2 --weight 30;
    turnout deployments update guests variant-1 --prompt welcome@4; turnout deployments update guests --protected
    """
    client: Client = context.obj
    if model and prompt:
        raise typer.BadParameter("give --model for a recommender, or --prompt for an LLM", param_hint="--prompt")
    if bool(variant) == (protected is not None):
        raise typer.BadParameter("give a variant with what to change of it, or --protected or --no-protected alone")
    with failures_for_people():
        full = f"{client.parent}/deployments/{deployment}"
        stub = DeploymentServiceStub(client.channel("registry"))
        if protected is not None:
            marked = pb.Deployment(name=full, protected=protected)
            history.tell(client, stub.UpdateDeployment(service_pb.UpdateDeploymentRequest(deployment=marked)))
            return
        wanted = pb.Variant(name=f"{full}/variants/{variant}", weight=weight, active=active)
        if model:
            wanted.recommendation.model = model
        if prompt:
            wanted.MergeFrom(prompts.variant_from(client, deployment, variant, alias, prompt))
        request = service_pb.UpdateVariantRequest(
            variant=wanted,
            alias=alias,
            draft=draft,
            description=description,
            retain_contract=retain_contract,
            skip_model_check=skip_model_check,
        )
        changed = stub.UpdateVariant(request)
    if client.as_json:
        output.as_json(changed)
        return
    output.warnings(changed.warnings)
    if changed.change_request:
        waiting(f"variant {changed.slug} of {deployment}", changed.change_request)
        return
    output.say(f"{changed.name}: weight {changed.weight:g}, {'active' if changed.active else 'inactive'}")


for _command in (history.history, history.diff, history.rollback, history.alias, history.archive):
    app.command()(_command)
app.command()(compatibility.check)
app.command()(snippets.snippets)
app.command()(export.export)


def _slot(text: str) -> pb.Variant:
    model, equals, weight = text.partition("=")
    try:
        variant = pb.Variant(weight=float(weight) if equals else None)
    except ValueError:
        raise typer.BadParameter(f"a slot is written model=weight, not {text!r}", param_hint="--slot") from None
    variant.display_name = f"Model {model}" if model.isdecimal() else ""
    variant.recommendation.model = model
    return variant


def _served(variant: pb.Variant) -> str:
    of = f" from {variant.completion.prompt}" if variant.completion.prompt else ""
    return (variant.completion.version or variant.recommendation.model) + of


def _split(deployment: pb.Deployment) -> str:
    total = sum(variant.weight for variant in deployment.variants if variant.active)
    return ", ".join(
        f"{variant.slug} {variant.weight / total:.0%}" if variant.active and total else f"{variant.slug} off"
        for variant in deployment.variants
    )
