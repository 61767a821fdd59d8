"""The commands of `turnout`, and what all of them take."""

from __future__ import annotations

from typing import Annotated

import typer

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
    providers,
    recommend,
    run,
    stats,
    train,
    up,
)
from cli.apply import command as apply
from cli.client import from_surroundings
from cli.demo import command as demo

app = typer.Typer(
    help="One stable name in front of many models.\n\n"
    "Start a whole Turnout on this machine with `turnout up`, then call a deployment with `turnout run`.",
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
    project: Annotated[str, typer.Option(help="Default: TURNOUT_PROJECT, else the project of `turnout up`.")] = "",
    json: Annotated[bool, typer.Option("--json", help="Answers and failures in JSON, for programs.")] = False,
) -> None:
    """Global options stand before the command: `turnout --json stats`."""
    output.tell_failures_as_json(json)
    context.obj = from_surroundings(address=address, api_key=api_key, project=project, as_json=json)


app.command("up")(up.up)
app.command("demo")(demo.demo)
app.command("run")(run.run)
app.command("recommend")(recommend.recommend)
app.command("stats")(stats.stats)
app.command("logs")(logs.logs)
app.command("train")(train.train)
app.command("apply")(apply.apply)
app.add_typer(projects.app, name="projects")
app.add_typer(providers.app, name="providers")
app.add_typer(prompts.app, name="prompts")
app.add_typer(deployments.app, name="deployments")
app.add_typer(changes.app, name="changes")
app.add_typer(models.app, name="models")
app.add_typer(keys.app, name="keys")
app.add_typer(credentials.app, name="credentials")
