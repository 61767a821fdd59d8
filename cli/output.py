"""Tables for people, JSON for programs, failures in sentences."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from typing import Any, Final

import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.cells import cell_len
from rich.console import Console, ConsoleRenderable, RenderHook
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from kit.errors import AppError

_STEERING: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
    # A joiner that joins nothing: Rich counts its width wrongly, and fails where such a text is folded.
    "|(?<![^\\s\u200d])\u200d"
)
_STEERING_OR_BREAK: Final = re.compile(f"{_STEERING.pattern}|[\t\n\u2028\u2029]")


def visible(text: str, *, in_line: bool = False) -> str:
    """What others wrote, with what would steer a terminal, or turn the direction of its text, as escapes.

    :param in_line: line breaks and tabs too
    """
    return (_STEERING_OR_BREAK if in_line else _STEERING).sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    short = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
    code = ord(found[0])
    return short.get(found[0]) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


class _Visible(RenderHook):
    """All texts that a console shows are visible whole; its own styles stay."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [self._shown(each) if isinstance(each, Text) else each for each in renderables]

    def _shown(self, text: Text) -> Text:
        if not _STEERING.search(text.plain):
            return text
        shown = text.blank_copy()
        for segment in text.render(self._console):
            shown.append(visible(segment.text), segment.style)
        return shown


def _console(*, stderr: bool = False) -> Console:
    console = Console(stderr=stderr)
    console.push_render_hook(_Visible(console))
    return console


screen: Final = _console()
errors: Final = _console(stderr=True)
_UNFOLDED_WIDTH: Final = 10_000
_UNFOLDED_CELL: Final = 36
"""In characters, as many as the longest uids have: narrower cells stay in one line."""
_NARROW_CELL: Final = 8
"""The same where short cells may be folded: counts and shares are narrower."""
_INDENT: Final = 2
_COMMANDS: Final = {
    "retain_contract": "--retain-contract",
    "skip_model_check": "--skip-model-check",
    "ApproveChangeRequest": "`turnout changes approve`",
    "RejectChangeRequest": "`turnout changes reject`",
    "CancelChangeRequest": "`turnout changes cancel`",
}
"""What the services call things, and what people type for them."""
_COMMAND: Final = re.compile(rf"\b({'|'.join(_COMMANDS)})\b")
CELL_WIDTH: Final = 80
"""In characters: what a cell shows of a list."""
_failures_as_json: ContextVar[bool] = ContextVar("failures_as_json", default=False)
_options: ContextVar[frozenset[str]] = ContextVar("options", default=frozenset())


def tell_failures_as_json(yes: bool) -> None:
    """How failures of this invocation are told."""
    _failures_as_json.set(yes)


def tell_failures_of(options: Iterable[str]) -> None:
    """What the command takes that runs, so that failures propose nothing else.

    :param options: their names, as `dry_run`
    """
    _options.set(frozenset(options))


def as_json(message: Message | Iterable[Message], **beside: object) -> None:
    """One document on standard output, in the field names of the contracts.

    :param beside: what an object has besides
    """
    shown = _plain(message) | beside if isinstance(message, Message) else [_plain(each) for each in message]
    print(json_text(shown, indent=2))


def json_text(document: object, *, indent: int | None = None) -> str:
    """JSON that a terminal, too, shows as it is: what would steer it is escaped inside the texts."""
    text = json.dumps(document, indent=indent, ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\u202a-\u202e\u2066-\u2069]", lambda found: f"\\u{ord(found[0]):04x}", text)


def answer(text: str, *, end: str = "\n") -> None:
    """What is asked for as such: byte by byte into a file or a pipe, and visible whole on a terminal."""
    print(visible(text) if sys.stdout.isatty() else text, end=end)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numbers: Sequence[str] = (),
    spare: Sequence[int] = (),
    fits: bool = False,
    unfolded: Sequence[int] = (),
) -> None:
    """A table; columns named in `numbers` are aligned to the right. Cells are text, never markup. On a terminal long
    ones are folded where that makes the table fit; else each row has several lines. Pipes get one line a row.

    :param spare: the places of columns that are left out, in this order, where a terminal has no room for all
    :param fits: short cells may be folded, too, rather than that
    :param unfolded: the places of columns that may not even then, because names and ids are copied from there
    """
    cells = [[visible(str(cell), in_line=True) for cell in row] for row in rows]
    kept, room = list(range(len(columns))), _room()
    widths = [max(map(cell_len, column)) for column in zip(columns, *cells, strict=True)]
    for place in spare:
        if _across(widths[at] for at in kept) > room:
            kept.remove(place)
    limits = _folded([widths[at] for at in kept], room, least=[_UNFOLDED_CELL] * len(kept))
    if limits is None and fits:
        narrow = [widths[at] if at in unfolded else _NARROW_CELL for at in kept]
        limits = _folded([widths[at] for at in kept], room, least=narrow)
    if limits is None:
        _stacked([columns[at] for at in kept], [[row[at] for at in kept] for row in cells], room)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for at, width in zip(kept, limits, strict=True):
        shown.add_column(
            columns[at],
            justify="right" if columns[at] in numbers else "left",
            no_wrap=width is None,
            max_width=width,
            overflow="fold",
        )
    for row in cells:
        shown.add_row(*(Text(row[at]) for at in kept))
    Console(width=_UNFOLDED_WIDTH).print(shown)


def _stacked(columns: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> None:
    """A table whose cells stand below the first of their row, behind the names of their columns, as many on a line as
    fit."""
    console = Console(width=room)
    for first, *others in rows:
        console.print(Text(first, style="bold", overflow="fold"))
        line = Text()
        for column, cell in zip(columns[1:], others, strict=True):
            if not cell:
                continue
            told = Text(f"{column} ", style="dim", overflow="fold").append(cell, style="not dim")
            if line and _INDENT + _across((line.cell_len, told.cell_len)) > room:
                _print_indented(console, line)
                line = Text()
            line = line.append("  ").append(told) if line else told
        _print_indented(console, line)


def _print_indented(console: Console, line: Text) -> None:
    console.print(Padding(line, (0, 0, 0, _INDENT), expand=False))


def tree(root: Tree) -> None:
    """A tree of texts that are :func:`visible` already. On a terminal long ones are folded; pipes get one line each."""
    Console(width=_room()).print(root)


def _room() -> int:
    """In characters, on a line."""
    return screen.width if screen.is_terminal else _UNFOLDED_WIDTH


def _across(widths: Iterable[int]) -> int:
    """How wide columns are beside each other."""
    found = list(widths)
    return sum(found) + 2 * (len(found) - 1)


def _folded(widths: Sequence[int], room: int, *, least: Sequence[int]) -> list[int | None] | None:
    """How wide columns may be that have to fold: the widest ones first. None if they do not fit in the end.

    :param least: what each column is not folded below
    """
    limits = list(widths)
    while _across(limits) > room:
        foldable = [at for at, limit in enumerate(limits) if limit > least[at]]
        if not foldable:
            return None
        limits[max(foldable, key=limits.__getitem__)] -= 1
    return [limit if limit < width else None for limit, width in zip(limits, widths, strict=True)]


def say(sentence: str) -> None:
    """One sentence on standard output, as it is: no markup, no folding."""
    screen.print(Text(visible(sentence)), soft_wrap=True)


def aside(sentence: str) -> None:
    """What is said beside the answer, on standard error, so that the answer alone goes into a pipe."""
    errors.print(Text(visible(sentence), style="dim"), soft_wrap=True)


def warnings(sentences: Iterable[str]) -> None:
    """What may surprise, on standard error: answers stay as they are for pipes."""
    for sentence in sentences:
        errors.print(Text(visible(f"warning: {sentence}"), style="yellow"), soft_wrap=True)


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


def facts(pairs: Iterable[tuple[str, object]], *, fits: bool = False) -> None:
    """Names and values, one pair a line, however long: keys and addresses are copied from here.

    :param fits: on a terminal, values are folded where they are too long for it
    """
    shown = [(name, visible(str(value), in_line=True)) for name, value in pairs]
    width, room = max(len(name) for name, _ in shown), _room()
    if fits and any(width + 2 + cell_len(value) > room for _, value in shown):
        grid = Table.grid(padding=(0, 2), pad_edge=False)
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in shown:
            grid.add_row(name, Text(value))
        Console(width=room).print(grid)
        return
    for name, value in shown:
        line = Text(f"{name:<{width}}  ", style="bold").append(value, style="not bold")
        screen.print(line, soft_wrap=True)


def _already_told(message: str, violations: Sequence[tuple[str, str]]) -> int:
    """How many violations, of the first, the message says itself: 0 or 1."""
    if not violations:
        return 0
    field, text = violations[0]
    sentence = f"{field} {text}".strip()
    if len(violations) == 1:
        return int(text == message or (field in message and text in message))
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
        print(json_text({"error": told}), file=sys.stderr)
        return
    told_already = _already_told(message, violations)
    message = _as_typed(message)
    errors.print(Text(message, style="red"), soft_wrap=True)
    for field, text in violations[told_already:]:
        errors.print(
            Text(f"  {visible(field)}: {_as_typed(text)}" if field else f"  {_as_typed(text)}"), soft_wrap=True
        )
    if error.reason == "CONTRACT_BROKEN":
        errors.print(Text(f"  {_around_contract()}"), soft_wrap=True)
    for attempt in attempts:
        errors.print(Text(visible(f"  {attempt}")), soft_wrap=True)
    # For `turnout logs`.
    request = f" {visible(error.metadata['request_id'])}" if "request_id" in error.metadata else ""
    errors.print(Text(f"  ({code.name} {error.reason}{request})", style="dim"), soft_wrap=True)


def _as_typed(sentence: str) -> str:
    return _COMMAND.sub(lambda found: _COMMANDS[found[0]], visible(sentence))


def _around_contract() -> str:
    """What may help where callers would break, in options that the command has."""
    other = "another alias, by `turnout deployments alias`, can serve callers who are ready for it"
    options = _options.get()
    if "draft" in options:
        return f"--draft makes the revision without publishing it; {other}"
    if "prune" in options:
        return (
            "variants are written one by one, each checked against callers: what fits them only together is made with "
            "`turnout deployments update … --draft`, or as a new deployment"
        )
    return other


def micros(cost_usd_micros: int) -> str:
    """Money as people write it."""
    return f"${cost_usd_micros / 1e6:,.6f}".rstrip("0").rstrip(".")


def milliseconds(microseconds: int) -> str:
    """A latency as people write it."""
    return f"{microseconds / 1000:,.1f} ms"


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = MessageToDict(message, preserving_proto_field_name=True)
    return plain
