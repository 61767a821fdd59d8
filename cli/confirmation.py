"""Nothing is written unasked that a person has just been shown."""

from __future__ import annotations

import sys

import typer

from cli.client import Client
from kit.errors import Precondition


def ask(client: Client, question: str, *, yes: bool) -> None:
    """Go on only if a person says so.

    :param yes: nobody needs to be asked
    :raises Precondition: `NOT_CONFIRMED`, also where there is nobody to ask
    """
    if yes:
        return
    if client.as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise Precondition(
            "nothing was changed: nobody can be asked here; give --yes to apply, or --dry-run to look",
            reason="NOT_CONFIRMED",
        )
    if not typer.confirm(question):
        raise Precondition("nothing was changed", reason="NOT_CONFIRMED")
