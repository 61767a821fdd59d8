"""`turnout apply`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from cli import confirmation, output
from cli.apply import documents
from cli.apply.deployments import DeploymentPlanner, used
from cli.apply.differences import as_json, shown
from cli.apply.documents import Document, Kind
from cli.apply.plan import Action, Failures, Options, Outcome, Plan, Server, Step, said_of
from cli.apply.sources import PlannedPrompt, plan_prompt, plan_provider
from cli.changes import waiting
from cli.client import Client, failures_for_people
from kit.errors import AppError

_DIFFERENT = 2
_STYLES = {Action.CREATE: "green", Action.CHANGE: "yellow", Action.KEEP: "dim", Action.WAIT: "cyan"}
_WORDS = {
    Action.CREATE: "will be created",
    Action.CHANGE: "will be changed",
    Action.KEEP: "unchanged",
    Action.WAIT: "waits for approval",
}


def apply(
    context: typer.Context,
    file: Annotated[
        list[str],
        typer.Option(
            "--file", "-f", help="A YAML file, a folder of them, or - for standard input; repeat for several."
        ),
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, check it, change nothing.")] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="With --dry-run: exit with 2 if anything differs, as `diff` does.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Take variants away that a file does not have.")] = False,
    description: Annotated[str, typer.Option(help="What for, for the history; such as a commit's title.")] = "",
    retain_contract: Annotated[
        bool, typer.Option("--retain-contract", help="Let variables go that callers may still send.")
    ] = False,
    skip_model_check: Annotated[
        bool, typer.Option("--skip-model-check", help="Take models that their provider does not list.")
    ] = False,
    set_credentials: Annotated[
        bool, typer.Option("--set-credentials", help="Send credentials also where a provider has one.")
    ] = False,
) -> None:
    """Make providers, prompts and deployments be as files say, so that they can live in git.

    Shows the difference and asks before it changes anything. Applying the same again changes nothing.

    A file has `kind: Deployment`, a `name` and `variants`, each with `provider`, `model`, and `messages` or `prompt`;
    docs/deployments-in-git.md has the rest. `turnout deployments export guide` writes one of what there is.

    Examples: turnout apply -f deployments/; turnout apply -f guide.yaml --dry-run --exit-code;
    turnout apply -f - --yes < guide.yaml
    """
    client: Client = context.obj
    if exit_code and not dry_run:
        raise typer.BadParameter("goes with --dry-run", param_hint="--exit-code")
    options = Options(description, prune, retain_contract, skip_model_check, set_credentials)
    with failures_for_people():
        asked = documents.read(file)
        plans = plan(Server(client), asked, options)
        if not client.as_json:
            _show(plans)
        differs = [each for each in plans if each.action is not Action.KEEP]
        todo = [each for each in plans if each.steps]
        warnings = _checked(todo)
        if not client.as_json:
            output.warnings(dict.fromkeys(warnings))
        done: list[tuple[Plan, Outcome]] = []
        if todo and not dry_run:
            _confirm(client, len(todo), yes=yes)
            try:
                for each in todo:
                    _do(each, done, warnings, silent=client.as_json)
            except AppError as error:
                error.message = f"{error.message}\n{_told(done)}"
                raise
    if client.as_json:
        _print_json(plans, done, warnings)
    elif not todo and not differs:
        output.say("nothing to do")
    if exit_code and differs:
        raise typer.Exit(_DIFFERENT)


def plan(server: Server, asked: Sequence[Document], options: Options) -> list[Plan]:
    """Each document's, in their order: providers, prompts, deployments."""
    plans: list[Plan] = []
    prompts: dict[str, PlannedPrompt] = {}
    new_providers: set[str] = set()
    failures, failed = Failures(), set[tuple[Kind, str]]()
    for document in asked:
        count = len(failures.found)
        with failures.collected(), said_of(document.where):
            if document.kind is Kind.PROVIDER:
                plans.append(plan_provider(server, document, options))
                if plans[-1].action is Action.CREATE:
                    new_providers.add(document.name)
            elif document.kind is Kind.PROMPT:
                prompts[document.name] = plan_prompt(server, document, options)
                plans.append(prompts[document.name].plan)
            else:
                planner = DeploymentPlanner(server, options, prompts, frozenset(new_providers))
                if failed.isdisjoint(used(document)):
                    # Else what is wrong with it may only be what is told of those already.
                    plans.append(planner.plan(document))
        if len(failures.found) > count:
            failed.add((document.kind, document.name))
    failures.raise_all()
    return plans


def _checked(plans: Sequence[Plan]) -> list[str]:
    """Whether the first step of each would be done; later ones may need those before them. What would be warned of."""
    warnings: list[str] = []
    failures = Failures()
    for each in plans:
        if each.depends:
            continue
        with failures.collected(), said_of(f"{each.document.where} {each.steps[0].says}".rstrip()):
            warnings += each.steps[0].act(each.etag, True).warnings
    failures.raise_all()
    return warnings


def _confirm(client: Client, count: int, *, yes: bool) -> None:
    confirmation.ask(client, f"Apply to {client.parent}, {count} to change?", yes=yes)


def _do(each: Plan, done: list[tuple[Plan, Outcome]], known: Collection[str], *, silent: bool) -> None:
    """Write one document's steps, each only if nobody wrote since it was planned.

    :param known: warnings that were told already
    """
    etag, label = each.etag, each.document.label
    for number, step in enumerate(each.steps, start=1):
        with said_of(f"{label}{f', {step.says}' if step.says else ''}"):
            outcome = step.act(etag, False)
        etag = outcome.etag
        done.append((each, outcome))
        if not silent:
            _tell(each, step, outcome, known)
        if outcome.change_request:
            if number < len(each.steps) and not silent:
                rest = ", ".join(later.says for later in each.steps[number:])
                output.say(f"  not asked for yet: {rest}; apply again once that is approved")
            return


def _tell(each: Plan, step: Step, outcome: Outcome, known: Collection[str]) -> None:
    says = step.says
    what = f"{each.document.label}{f', {says}' if says else ''}"
    output.warnings(f"{what}: {warning}" for warning in outcome.warnings if warning not in known)
    if outcome.change_request:
        waiting(what, outcome.change_request)
        return
    verb = "created" if each.action is Action.CREATE and not says else step.did
    output.say(f"{what}: {verb}{f', {outcome.note}' if outcome.note else ''}")


def _told(done: Sequence[tuple[Plan, Outcome]]) -> str:
    """What was done before something failed."""
    if not done:
        return "nothing was changed"
    labels = dict.fromkeys(each.document.label for each, _ in done)
    counts = [
        f"{label} ({sum(each.document.label == label for each, _ in done)} of "
        f"{next(len(each.steps) for each, _ in done if each.document.label == label)} writes)"
        for label in labels
    ]
    return f"done before that: {', '.join(counts)}; the rest was not; apply again to go on"


def _show(plans: Sequence[Plan]) -> None:
    for each in plans:
        output.screen.print(
            Text(f"{each.document.label} ", style="bold").append(_WORDS[each.action], style=_STYLES[each.action]),
            soft_wrap=True,
        )
        for difference in each.differences:
            for line in shown(difference):
                output.screen.print(Text("  ").append_text(line), soft_wrap=True)
        for note in each.notes:
            output.say(f"  note: {note}")
        if each.change_request:
            waiting(f"  {each.document.label}", each.change_request)


def _print_json(plans: Sequence[Plan], done: Sequence[tuple[Plan, Outcome]], warnings: Sequence[str]) -> None:
    shown_plans: list[dict[str, Any]] = []
    for each in plans:
        outcomes = [outcome for of, outcome in done if of is each]
        requests = [outcome.change_request for outcome in outcomes if outcome.change_request]
        shown_plans.append(
            {
                "kind": each.document.kind.value,
                "name": each.document.name,
                "action": each.action.value,
                "differences": [as_json(difference) for difference in each.differences],
                "notes": each.notes,
                "steps": [step.says for step in each.steps],
                "steps_done": len(outcomes),
                "change_request": each.change_request or next(iter(requests), ""),
                "warnings": [warning for outcome in outcomes for warning in outcome.warnings],
            }
        )
    print(output.json_text({"resources": shown_plans, "warnings": list(dict.fromkeys(warnings))}, indent=2))
