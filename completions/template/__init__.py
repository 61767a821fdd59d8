"""Message templates: Jinja's syntax, without its powers.

A template may use `if`, `for`, `set`, members and elements, operators, and the filters and tests that
:mod:`completions.template.filters` lists. Nothing is escaped. Variables are JSON data; `a.items` and `a['items']` are
the member `items`, never a method. What is not there may be asked for with `is defined` or replaced with `default`; any
other use of it, a bare `if` too, fails the render, and the failure names everything that is missing at once.

A line end `\\r\\n` or `\\r` in a text with template syntax becomes `\\n`, as in Jinja. A text without template syntax
is rendered as it is, and costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from completions.chat import ImagePart, Message, TextPart
from completions.template.constants import check_constants
from completions.template.environment import Program, parse
from completions.template.lexer import Refused, has_syntax, is_templated, line_of, literal, place_in_words
from completions.template.paths import Path
from completions.template.runtime import Budget
from completions.template.translation import Blanks
from completions.text import fault
from kit.errors import Invalid, Violation
from kit.json import Json
from kit.values import replace

__all__ = [
    "CompiledMessages",
    "Template",
    "Uses",
    "check",
    "compile",
    "is_templated",
    "literal",
    "reads_of",
    "texts_of",
    "uses_of",
]

MAX_TEMPLATE_BYTES = 256 << 10
"""One text with expressions or statements. Longer constant text has its place in a message of its own, or in a
variable.
"""
MAX_TEXT_BYTES = 1 << 20
MAX_VARIABLES_BYTES = 256 << 10
"""All variables of a render, as compact JSON."""
_JSON_ONLY = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS


def check(text: str, *, field: str) -> None:
    """Whether `text` may be a template; to be asked when it is written.

    :param field: its path in the request, for the violation
    :raises Invalid: `TEMPLATE_SYNTAX`, `TEMPLATE_NOT_ALLOWED`, `TEMPLATE_TOO_LARGE` or `TEMPLATE_TOO_DEEP`, with the
        line and the column; and as :meth:`Template.render`, where constants alone make every render fail
    """
    reads_of(text, field=field)


def reads_of(text: str, *, field: str) -> tuple[Path, ...]:
    """Every place in the variables that the template may read.

    :raises Invalid: as :func:`check`
    """
    return uses_of(text, field=field).reads


class Uses(NamedTuple):
    """What one template needs."""

    reads: tuple[Path, ...] = ()
    """Every place in the variables that it may read."""
    required: tuple[Path, ...] = ()
    """Those without which no render succeeds."""


def uses_of(text: str, *, field: str) -> Uses:
    """Every place in the variables that the template may read; and those without which no render succeeds.

    :raises Invalid: as :func:`check`
    """
    try:
        _check_size(text)
        translation = parse(text) if has_syntax(text) else None
        if translation is not None:
            check_constants(translation.tree)
    except Refused as refusal:
        raise _invalid(refusal, field) from None
    return Uses() if translation is None else Uses(translation.reads, translation.required)


class Template:
    """A compiled template. Immutable; renders may run at the same time in several threads."""

    __slots__ = ("_blanks", "_field", "_program", "constant")

    constant: str | None
    """What every render yields, when there is no expression or statement in it."""

    def __init__(self, text: str, field: str) -> None:
        self._field = field
        self._program: Program | None = None
        self._blanks: Blanks | None = None
        self.constant = text
        try:
            _check_size(text)
            if has_syntax(text):
                translation = parse(text)
                self.constant = translation.constant
                if translation.constant is None:
                    self._program = Program(translation.tree)
                    self._blanks = translation.blanks
        except Refused as refusal:
            raise _invalid(refusal, field) from None

    def render(self, variables: dict[str, Json]) -> str:
        """The text with everything filled in.

        :raises Invalid: `MISSING_VARIABLES` with a violation for each; `VARIABLES_INVALID`, `VARIABLES_TOO_LARGE`; and
            `TEMPLATE_LOOP_LIMIT` (10,000 iterations, nested ones counted), `TEMPLATE_OUTPUT_LIMIT` (1 MiB),
            `TEMPLATE_WORK_LIMIT` or `TEMPLATE_FAILED` (an operation on the wrong type), with the line
        """
        check_variables(variables)
        budget = Budget()
        text = self.render_within(budget, variables)
        raise_missing(budget)
        return text

    def render_within(self, budget: Budget, variables: dict[str, Json]) -> str:
        """As :meth:`render`, as part of a larger render whose variables are checked; what is missing stays in
        `budget`.
        """
        if self._program is None:
            return self.constant or ""
        if self._blanks is not None and (text := _filled(self._blanks, variables, budget)) is not None:
            return text
        try:
            return self._program.run(variables, budget)
        except Refused as refusal:
            # What is missing explains what failed after it.
            if budget.missing:
                return ""
            # Compiled code knows in which line a statement began, and not which part of it failed.
            refusal.place = line_of(refusal.place)
            raise _invalid(refusal, self._field) from None


def _filled(blanks: Blanks, variables: dict[str, Json], budget: Budget) -> str | None:
    """What the program would make of it, for a fraction of the time; None where that does more than to put texts in."""
    pieces: list[Any] = list(blanks.pieces)
    pieces[1::2] = map(variables.get, blanks.names)
    try:
        text = "".join(pieces)
        size = len(text) if text.isascii() else len(text.encode())
    except (TypeError, UnicodeEncodeError):
        # A variable that is not there, or no text; or one that has no UTF-8.
        return None
    if size > budget.output:
        return None
    budget.output -= size
    return text


def compile(text: str, *, field: str = "template") -> Template:
    """Compile a text. It costs milliseconds where a render costs microseconds, so callers keep the result.

    :raises Invalid: as :func:`check`
    """
    return Template(text, field)


class CompiledMessages:
    """The messages of a version, compiled once. They share the limits of one render."""

    __slots__ = ("_is_constant", "_messages")

    def __init__(self, messages: Sequence[Message]) -> None:
        """:raises Invalid: as :func:`check`"""
        self._messages: list[tuple[Message, list[Template]]] = []
        for index, message in enumerate(messages):
            templates = [Template(text, field) for field, text in texts_of(message, f"messages[{index}]")]
            constants = [template.constant for template in templates if template.constant is not None]
            if len(constants) == len(templates):
                # Comments and raw blocks are settled here, once.
                message, templates = _with_texts(message, constants), []
            self._messages.append((message, templates))
        self._is_constant = not any(templates for _, templates in self._messages)

    def render(self, variables: dict[str, Json]) -> tuple[Message, ...]:
        """The messages with their templates filled in; a message without any is the same object each time.

        :raises Invalid: as :meth:`Template.render`; what is missing in any of the messages is named at once
        """
        if self._is_constant:
            return tuple([message for message, _ in self._messages])
        check_variables(variables)
        budget = Budget()
        rendered = []
        for message, templates in self._messages:
            if templates and not message.parts:
                # Its content alone, as in most.
                message = _with_content(message, templates[0].render_within(budget, variables))
            elif templates:
                message = _with_texts(message, [each.render_within(budget, variables) for each in templates])
            rendered.append(message)
        raise_missing(budget)
        return tuple(rendered)


def texts_of(message: Message, path: str) -> Iterator[tuple[str, str]]:
    """The texts of a message that are templates, each with its field: the content, or the texts and URLs of the
    parts.
    """
    if not message.parts:
        yield f"{path}.content", message.content
    for index, part in enumerate(message.parts):
        if isinstance(part, TextPart):
            yield f"{path}.parts[{index}].text", part.text
        else:
            yield f"{path}.parts[{index}].url", part.url


def _with_texts(message: Message, texts: Sequence[str]) -> Message:
    """`message` with other texts, in the order of :func:`texts_of`."""
    if not message.parts:
        return message if message.content == texts[0] else _with_content(message, texts[0])
    parts = [
        TextPart(text) if isinstance(part, TextPart) else ImagePart(text, part.detail)
        for part, text in zip(message.parts, texts, strict=True)
    ]
    return replace(message, parts=tuple(parts))


def _with_content(message: Message, content: str) -> Message:
    # `replace` goes through the fields, which takes six times as long, for every call.
    return Message(
        message.role,
        content,
        (),
        message.name,
        message.tool_calls,
        message.tool_call_id,
        message.reasoning,
    )


def check_variables(variables: dict[str, Json]) -> None:
    """Whether they are JSON of a size that may be rendered.

    :raises Invalid: `VARIABLES_INVALID`, `VARIABLES_TOO_LARGE`
    """
    try:
        size = len(orjson.dumps(variables, option=_JSON_ONLY))
    except orjson.JSONEncodeError as error:
        raise _variables_invalid("VARIABLES_INVALID", f"must be JSON: {error}") from None
    if size > MAX_VARIABLES_BYTES:
        raise _variables_invalid("VARIABLES_TOO_LARGE", f"must be at most {MAX_VARIABLES_BYTES} bytes, are {size}")


def raise_missing(budget: Budget) -> None:
    """:raises Invalid: `MISSING_VARIABLES`, if the render used any"""
    if budget.missing:
        raise missing_variables(list(budget.missing))


def missing_variables(paths: Sequence[str]) -> Invalid:
    """What a call lacks.

    :param paths: at least one, such as `user.name`
    """
    names = ", ".join(paths)
    return Invalid(
        f"variables are missing: {names}",
        reason="MISSING_VARIABLES",
        violations=[Violation(f"variables.{name}", "is used by a template but not given") for name in paths],
        variables=names,
    )


def _check_size(text: str) -> None:
    if (wrong := fault(text)) is not None:
        raise Refused("TEMPLATE_NOT_ALLOWED", wrong)
    limit = MAX_TEMPLATE_BYTES if is_templated(text) else MAX_TEXT_BYTES
    if len(text) > limit or (not text.isascii() and len(text.encode()) > limit):
        raise Refused("TEMPLATE_TOO_LARGE", f"must be at most {limit} bytes")


def _invalid(refusal: Refused, field: str) -> Invalid:
    place = place_in_words(refusal.place)
    message = f"{place}: {refusal.message}" if place else refusal.message
    return Invalid(f"{field} {message}", reason=refusal.reason, violations=(Violation(field, message),))


def _variables_invalid(reason: str, message: str) -> Invalid:
    return Invalid(f"variables {message}", reason=reason, violations=(Violation("variables", message),))
