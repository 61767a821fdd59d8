"""The command: scene after scene, and exit status 0 only if every one of them worked."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import grpc
import typer

from cli import client as cli_client
from cli import output
from cli.client import failures_for_people
from cli.demo import assistant, movies
from cli.demo.stage import PROJECT, Failed, Stage, open_stage
from cli.program import program
from kit.errors import AppError

_ROOT: Final = Path(".turnout") / "demo"


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running at the end, to be tried.")] = False,
    folder: Annotated[Path, typer.Option(help="Where data lie: its first free subfolder, emptied first.")] = _ROOT,
) -> None:
    """Start a whole Turnout, put two prompts and two recommenders behind two names, call both, show what was measured.

    Every number comes from the services. Nothing leaves this machine: the LLM and the data are local.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    began = time.monotonic()
    try:
        with ExitStack() as stack, failures_for_people():
            stage = stack.enter_context(open_stage(folder, emptied))
            calls = assistant.play(stage)
            recommendations = movies.play(stage)
            _measured(stage, calls + recommendations)
            output.say(f"\nAll of it worked, in {time.monotonic() - began:.0f} seconds.")
            if keep:
                _tell(stage)
                with cli_client.kept(
                    addresses=stage.addresses,
                    http_url=stage.http_url,
                    api_key=stage.key,
                    project=PROJECT,
                    data=stage.folder,
                ):
                    stage.watch()
    except KeyboardInterrupt:
        output.errors.print("stopped")
        raise typer.Exit(130) from None
    except Failed as failed:
        output.errors.print(f"The demo failed: {failed}", markup=False, style="red")
        raise typer.Exit(1) from None
    except AppError as error:
        output.failure(error, grpc.StatusCode.UNAVAILABLE)
        raise typer.Exit(1) from None
    except OSError as error:
        output.errors.print(f"{error.filename or folder}: {error.strerror}", markup=False, highlight=False)
        raise typer.Exit(1) from None


def _measured(stage: Stage, expected: int) -> None:
    """What analytics says of it all: it must have every request, once."""
    stage.title("What was measured")
    seen = stage.wait_for_requests(expected)
    stage.turnout("stats")
    if (seen.total.requests, seen.total.ok) != (expected, expected):
        raise Failed(f"analytics counts {seen.total.requests} requests, {seen.total.ok} of them good, not {expected}")
    output.say(f"{expected} calls were made, and analytics counts {seen.total.requests}.")


def _tell(stage: Stage) -> None:
    http = stage.http_url
    output.say("\nIt runs on. In another terminal, in this folder:")
    question = "Any customs I should mind at the dinner table?"
    body = json.dumps(
        {
            "model": f"turnout/deployment/{assistant.DEPLOYMENT}",
            "input": {"country": "Italy", "language": "English"},
            "messages": [{"role": "user", "content": question}],
        }
    )
    for command in (
        f'{program()} run {assistant.DEPLOYMENT} -v country=Italy -v language=English "{question}"',
        f"curl {http}/v1/chat/completions -H 'Authorization: Bearer {stage.key}' -H 'Content-Type: application/json' "
        f"-d '{body}'",
        f"{program()} stats",
    ):
        output.say(f"\n  {command}")
    output.say("")
    output.facts(
        [
            ("gRPC", stage.addresses[""]),
            ("HTTP", f"{http}/v1"),
            ("API key", stage.key),
            ("project", PROJECT),
            ("data", stage.folder),
        ]
    )
    output.say("\nCtrl-C stops everything.")


def emptied(folder: Path) -> None:
    """Remove what an earlier demo left, but for the claim on the folder."""
    for path in folder.iterdir():
        if path.name == "owner":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
