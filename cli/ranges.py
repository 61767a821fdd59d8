"""Numbers that people give, inside the bounds in which they mean something."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

TimeoutSeconds: TypeAlias = Annotated[
    float, typer.Option(min=0.001, max=86_400, help="How long to wait; a day at most.")
]
Hours: TypeAlias = Annotated[float, typer.Option(min=0.01, max=87_600, help="How far back; ten years at most.")]
