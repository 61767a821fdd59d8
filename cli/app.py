"""The commands of `turnout`, and what all of them take."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from cli import (
    changes,
    credentials,
    deployments,
    keys,
    logs,
    models,
    output,
    projects,
    prompts,
    proposals,
    providers,
    recommend,
    route,
    run,
    simulate,
    stats,
    train,
    up,
)
from cli.apply import command as apply
from cli.client import from_surroundings
from cli.demo import command as demo

_BEGIN, _CALL, _SEE, _SERVE, _ACCESS = "Begin here", "Call", "See what happened", "What is served", "Who may"

app = typer.Typer(
    help="One stable name in front of many models.\n\n"
    "Start a whole Turnout on this machine with `turnout up`, then call its deployment from another terminal with "
    "`turnout run`, and see what it cost with `turnout stats`.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


@app.callback()
def options(
    context: typer.Context,
    address: Annotated[
        str, typer.Option(help="host:port of Turnout. Default: TURNOUT_ADDRESS, else `turnout up` here.")
    ] = "",
    api_key: Annotated[str, typer.Option(help="Default: TURNOUT_API_KEY, else the key that `turnout up` made.")] = "",
    project: Annotated[
        str,
        typer.Option(
            help="Default: TURNOUT_PROJECT, else the project of `turnout up`.", autocompletion=proposals.projects
        ),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Answers and failures in JSON, for programs.")] = False,
) -> None:
    """Global options stand before the command: `turnout --json stats`."""
    output.tell_failures_as_json(json)
    context.obj = from_surroundings(address=address, api_key=api_key, project=project, as_json=json)


app.command("up", rich_help_panel=_BEGIN)(up.up)
app.command("demo", rich_help_panel=_BEGIN)(demo.demo)
app.command("run", rich_help_panel=_CALL)(run.run)
app.command("recommend", rich_help_panel=_CALL)(recommend.recommend)
app.command("route", rich_help_panel=_CALL)(route.route)
app.command("simulate", rich_help_panel=_CALL)(simulate.simulate)
app.command("stats", rich_help_panel=_SEE)(stats.stats)
app.command("logs", rich_help_panel=_SEE)(logs.logs)
app.add_typer(deployments.app, name="deployments", rich_help_panel=_SERVE)
app.add_typer(changes.app, name="changes", rich_help_panel=_SERVE)
app.add_typer(prompts.app, name="prompts", rich_help_panel=_SERVE)
app.add_typer(providers.app, name="providers", rich_help_panel=_SERVE)
app.command("train", rich_help_panel=_SERVE)(train.train)
app.add_typer(models.app, name="models", rich_help_panel=_SERVE)
app.command("apply", rich_help_panel=_SERVE)(apply.apply)
app.add_typer(projects.app, name="projects", rich_help_panel=_ACCESS)
app.add_typer(keys.app, name="keys", rich_help_panel=_ACCESS)
app.add_typer(credentials.app, name="credentials", rich_help_panel=_ACCESS)


class _Command(TyperCommand):
    """Failures know what the command that runs takes."""

    def invoke(self, ctx: Any) -> Any:
        output.tell_failures_of(str(each.name) for each in self.params)
        return super().invoke(ctx)


def _unfold(of: typer.Typer) -> None:
    """Docstrings are folded for whoever reads the code; help is folded by the terminal. Examples keep their lines."""
    for command in of.registered_commands:
        command.cls = _Command
        paragraphs = inspect.cleandoc(command.help or getattr(command.callback, "__doc__", None) or "").split("\n\n")
        command.help = "\n\n".join(
            each if each.startswith("Example") else " ".join(each.split()) for each in paragraphs
        )
    for group in of.registered_groups:
        if group.typer_instance is not None:
            _unfold(group.typer_instance)


_unfold(app)
