"""Bars that show how far a long command is, on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from cli import output

Bar: TypeAlias = Callable[[float], None]
"""Told how much is done, from 0 to 1."""


@contextmanager
def bars() -> Iterator[Callable[[str], Bar]]:
    """Makes a bar a step, on standard error; nothing is shown where that is no terminal."""
    columns = (TextColumn("{task.description:<10}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=output.errors, disable=not output.errors.is_terminal) as shown:

        def begin(step: str) -> Bar:
            task = shown.add_task(step, total=1.0)
            return lambda done: shown.update(task, completed=done)

        yield begin
