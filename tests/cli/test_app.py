"""What `--help` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from typer.testing import Result

from cli.app import app


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every group and command below one, with the words that call it."""
    for name, command in group.commands.items():
        yield " ".join((*words, name)), command
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))


EVERY = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", EVERY)
def test_every_command_says_in_a_line_or_two_what_it_does(words: str) -> None:
    summary, *rest = EVERY[words].help.split("\n\n")

    assert 10 < len(summary) <= 120, summary
    assert all("\n" not in each or each.startswith("Example") for each in (summary, *rest))


def test_help_begins_with_where_to_begin(turnout: Callable[..., Result]) -> None:
    shown = turnout("--help").stdout

    assert shown.index("turnout up") < shown.index("Begin here") < shown.index("What is served")
    assert all(name in shown for name in EVERY if " " not in name)
