"""Bars are for people at a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cli import output
from cli.progress import bars


@pytest.mark.parametrize("is_terminal", [True, False])
def test_steps_are_shown_on_a_terminal_and_nowhere_else(monkeypatch: pytest.MonkeyPatch, is_terminal: bool) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(output, "errors", Console(file=shown, force_terminal=is_terminal, width=80))

    with bars() as bar:
        reading, writing = bar("reading"), bar("writing")
        reading(1.0)
        writing(0.5)

    assert ("reading" in shown.getvalue()) is is_terminal
    assert ("100%" in shown.getvalue()) is is_terminal
    assert ("50%" in shown.getvalue()) is is_terminal
