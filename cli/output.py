"""Tables for people, JSON for programs, failures in sentences."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kit.errors import AppError

screen: Final = Console()
errors: Final = Console(stderr=True)
_UNFOLDED_WIDTH: Final = 10_000
_HINTS: Final = {
    "CONTRACT_BROKEN": "--draft makes the revision without publishing it; another alias, by `turnout deployments "
    "alias`, can serve callers who are ready for it",
}
"""What may help, by reason."""
CELL_WIDTH: Final = 80
"""In characters: what a cell shows of a list."""
_failures_as_json: ContextVar[bool] = ContextVar("failures_as_json", default=False)


def tell_failures_as_json(yes: bool) -> None:
    """How failures of this invocation are told."""
    _failures_as_json.set(yes)


def as_json(message: Message | Iterable[Message], **beside: object) -> None:
    """One document on standard output, in the field names of the contracts.

    :param beside: what an object has besides
    """
    shown = _plain(message) | beside if isinstance(message, Message) else [_plain(each) for each in message]
    print(json.dumps(shown, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[str] = ()) -> None:
    """A table; columns named in `numbers` are aligned to the right. Cells are text, never markup, and never folded:
    what does not fit is for the terminal to wrap, and pipes get one line a row."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, justify="right" if column in numbers else "left", no_wrap=True)
    for row in rows:
        shown.add_row(*(Text(str(cell)) for cell in row))
    Console(width=_UNFOLDED_WIDTH).print(shown)


def say(sentence: str) -> None:
    """One sentence on standard output, as it is: no markup, no folding."""
    screen.print(Text(sentence), soft_wrap=True)


def aside(sentence: str) -> None:
    """What is said beside the answer, on standard error, so that the answer alone goes into a pipe."""
    errors.print(Text(sentence, style="dim"), soft_wrap=True)


def warnings(sentences: Iterable[str]) -> None:
    """What may surprise, on standard error: answers stay as they are for pipes."""
    for sentence in sentences:
        errors.print(Text(f"warning: {sentence}", style="yellow"), soft_wrap=True)


def listed(parts: Sequence[str], *, width: int = CELL_WIDTH) -> str:
    """Several in a table's cell, cut with their count where there are too many.

    :param width: in characters, for those that are shown; the first is shown whole
    """
    shown: list[str] = []
    for part in parts:
        if shown and len(", ".join((*shown, part))) > width:
            return f"{', '.join(shown)}, … and {len(parts) - len(shown):,} more"
        shown.append(part)
    return ", ".join(shown)


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values, one pair a line, however long: keys and addresses are copied from here."""
    shown = list(pairs)
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        line = Text(f"{name:<{width}}  ", style="bold").append(str(value), style="not bold")
        screen.print(line, soft_wrap=True)


def _already_told(message: str, violations: Sequence[tuple[str, str]]) -> int:
    """How many violations, of the first, the message says itself: 0 or 1."""
    if not violations:
        return 0
    field, text = violations[0]
    sentence = f"{field} {text}".strip()
    if len(violations) == 1:
        return int(field in message and text in message)
    return int(message.endswith((sentence, f"{sentence} (and {len(violations) - 1} more)")))


def failure(error: AppError, code: grpc.StatusCode, attempts: Sequence[str] = ()) -> None:
    """What went wrong, on standard error: a sentence and what belongs to it, or one JSON object on one line.

    :param attempts: what was tried inside the call, a line each
    """
    message = error.message
    violations = [(each.field, each.message) for each in error.violations]
    if _failures_as_json.get():
        told = {
            "code": code.name,
            "reason": error.reason,
            "message": message,
            "metadata": error.metadata,
            "violations": [{"field": field, "message": text} for field, text in violations],
            "attempts": list(attempts),
        }
        print(json.dumps({"error": told}, ensure_ascii=False), file=sys.stderr)
        return
    errors.print(Text(message, style="red"), soft_wrap=True)
    for field, text in violations[_already_told(message, violations) :]:
        errors.print(Text(f"  {field}: {text}"), soft_wrap=True)
    if error.reason in _HINTS:
        errors.print(Text(f"  {_HINTS[error.reason]}"), soft_wrap=True)
    for attempt in attempts:
        errors.print(Text(f"  {attempt}"), soft_wrap=True)
    errors.print(Text(f"  ({code.name} {error.reason})", style="dim"), soft_wrap=True)


def micros(cost_usd_micros: int) -> str:
    """Money as people write it."""
    return f"${cost_usd_micros / 1e6:,.6f}".rstrip("0").rstrip(".")


def milliseconds(microseconds: int) -> str:
    """A latency as people write it."""
    return f"{microseconds / 1000:,.1f} ms"


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return plain
