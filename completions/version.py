"""Versions: what is static about a completion, their ids, and where a version ends and a call's input begins."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from completions import template, tools
from completions.canonical import canonical
from completions.chat import ImagePart, Message, Part, Role, TextPart, faults_of
from completions.text import fault
from kit.errors import Invalid, Violation
from kit.json import MAX_BYTES, MAX_DEPTH, Json, dump
from kit.values import replace

MAX_MESSAGES = 256
MAX_TEXT_BYTES = 1 << 20
"""All message text of a version together, in UTF-8."""
MAX_MODEL_LENGTH = 256
MAX_STOP_SEQUENCES = 16
MAX_STOP_LENGTH = 1024
"""Characters of one stop sequence."""

_SET_BY_TURNOUT = frozenset({"model", "messages", "stream", "stream_options"})
_SLUG = re.compile(r"[a-z0-9_-]{1,63}")
_INT64 = 1 << 63
_RANGES: tuple[tuple[str, type, int, int | None], ...] = (
    ("temperature", float, 0, 2),
    ("top_p", float, 0, 1),
    ("presence_penalty", float, -2, 2),
    ("frequency_penalty", float, -2, 2),
    ("top_k", int, 1, None),
    ("max_output_tokens", int, 1, None),
    ("seed", int, -_INT64, None),
    ("reasoning_budget_tokens", int, 0, None),
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """How the model is asked. None, or empty, is absent: the provider decides."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_output_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    reasoning_budget_tokens: int | None = None
    extra: dict[str, Json] = field(default_factory=dict)
    """Passed to the provider as it is. May not set `model`, `messages`, `stream` or `stream_options`; `n` may be 1."""


@dataclass(frozen=True, slots=True)
class Version:
    """A completion's configuration. All JSON in it keeps key order and integers as given."""

    provider: str
    model: str
    messages: tuple[Message, ...] = ()
    """Templates, each: what is meant verbatim must have gone through :func:`completions.template.literal`."""
    parameters: Parameters = field(default_factory=Parameters)
    tools: list[Json] = field(default_factory=list)
    tool_choice: str | dict[str, Json] | None = None
    response_format: dict[str, Json] | None = None
    variables_schema: dict[str, Json] | None = None


def version_id(version: Version) -> str:
    """`ver_` and the first 32 hexadecimal digits of the BLAKE2s-256 (unkeyed) of the version's canonical document.

    The document is an object with the members `provider`, `model`, `messages`, `parameters`, `tools`, `tool_choice`,
    `response_format` and `variables_schema`, written by :func:`completions.canonical.canonical`:

    * `messages`: objects with `role` (in lower case), `content`, `parts`, `name`, `tool_calls`, `tool_call_id`,
      `reasoning`; a part is `{"type":"text","text":…}` or `{"type":"image","url":…,"detail":…}`, a tool call has `id`,
      `name`, `arguments_json` and `extra_content_json` (both strings).
    * `parameters`: an object with the fields of :class:`Parameters` under their names.
    * Of all these, a member that is null, an empty string, an empty list or an empty `parameters` or `extra` is left
      out: absent and empty are the same. Inside `tools`, `tool_choice`, `response_format`, `variables_schema` and
      `extra` nothing is left out, nulls included; an empty object as `tool_choice`, `response_format` or
      `variables_schema` stays.

    The order of members never matters; the order of messages, tools and stop sequences does.

    :raises Invalid: `JSON_NOT_CANONICAL`, never for a version that :func:`validate` accepts
    """
    return "ver_" + hashlib.blake2s(canonical(_document(version))).hexdigest()[:32]


def validate(version: Version) -> tuple[template.Uses, ...]:
    """Refuse what no provider could be asked, naming every fault at once.

    :return: what each of its templates uses, for :func:`completions.schema.variables_schema`
    :raises Invalid: `VERSION_INVALID` with a violation per fault (`parameters.temperature`, `messages[1].content`); if
        only templates are wrong, the reason of the first of them (:func:`completions.template.check`)
    """
    faults = list(_faults(version))
    if faults:
        raise Invalid(f"{faults[0].field} {faults[0].message}", reason="VERSION_INVALID", violations=faults)
    refusals: list[Invalid] = []
    uses: list[template.Uses] = []
    for path, text in _templates(version.messages):
        try:
            uses.append(template.uses_of(text, field=path))
        except Invalid as refusal:
            refusals.append(refusal)
    if refusals:
        violations = [violation for refusal in refusals for violation in refusal.violations]
        raise Invalid(refusals[0].message, reason=refusals[0].reason, violations=violations)
    return tuple(uses)


class Split(NamedTuple):
    """The messages of a direct call, divided."""

    version: tuple[Message, ...]
    """Templates that belong to the version."""
    input: tuple[Message, ...]
    """Data that belongs to the call."""


def split(messages: Sequence[Message], *, variables_given: bool) -> Split:
    """Divide the messages of a direct call into the version's and the input.

    With variables, messages are templates: those up to and including the last templated one are the version's. With no
    templated message a leading system (or developer) message is. Without variables every message is data, and so the
    leading system message goes into the version as a template that yields its very text.
    """
    if variables_given:
        for index in range(len(messages) - 1, -1, -1):
            if any(template.is_templated(text) for _, text in _templates(messages[index : index + 1])):
                return Split(tuple(messages[: index + 1]), tuple(messages[index + 1 :]))
    if not messages or messages[0].role not in (Role.SYSTEM, Role.DEVELOPER):
        return Split((), tuple(messages))
    leading = messages[0] if variables_given else _literal(messages[0])
    return Split((leading,), tuple(messages[1:]))


def join(templates: Sequence[Message], rendered: Sequence[Message], given: Sequence[Message]) -> tuple[Message, ...]:
    """What the model is sent: the version's messages, then the call's.

    A caller who also sends the version's leading system (or developer) message, as template or as rendered, does not
    send it twice. `content` and a single text part are the same.

    :param templates: the version's messages as written
    :param rendered: the same, rendered with the call's variables
    :param given: the call's own messages
    """
    if rendered and given and given[0].role is rendered[0].role in (Role.SYSTEM, Role.DEVELOPER):
        sent = _as_parts(given[0])
        if sent in (_as_parts(rendered[0]), _as_parts(templates[0])):
            given = given[1:]
    return (*rendered, *given)


def _as_parts(message: Message) -> Message:
    return replace(message, content="", parts=(TextPart(message.content),)) if message.content else message


def _literal(message: Message) -> Message:
    parts = tuple(
        TextPart(template.literal(part.text))
        if isinstance(part, TextPart)
        else ImagePart(template.literal(part.url), part.detail)
        for part in message.parts
    )
    return replace(message, content=template.literal(message.content), parts=parts)


def _templates(messages: Sequence[Message]) -> Iterator[tuple[str, str]]:
    for index, message in enumerate(messages):
        yield from template.texts_of(message, f"messages[{index}]")


def _document(version: Version) -> dict[str, Json]:
    parameters = version.parameters
    values: dict[str, Json] = {name: getattr(parameters, name) for name in Parameters.__dataclass_fields__}
    values["stop"] = list(parameters.stop)
    return _present(
        provider=version.provider,
        model=version.model,
        messages=[_message_document(message) for message in version.messages],
        parameters=_present(**values) or None,
        tools=version.tools,
    ) | {
        name: value
        for name, value in (
            ("tool_choice", version.tool_choice),
            ("response_format", version.response_format),
            ("variables_schema", version.variables_schema),
        )
        if value is not None
    }


def _message_document(message: Message) -> Json:
    return _present(
        role=message.role.value,
        content=message.content,
        parts=[_part_document(part) for part in message.parts],
        name=message.name,
        tool_calls=[
            _present(
                id=call.id,
                name=call.name,
                arguments_json=call.arguments_json,
                extra_content_json=call.extra_content_json,
            )
            for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
        reasoning=message.reasoning,
    )


def _part_document(part: Part) -> Json:
    if isinstance(part, TextPart):
        return _present(type="text", text=part.text)
    return _present(type="image", url=part.url, detail=part.detail)


def _present(**members: Json) -> dict[str, Json]:
    return {
        name: value
        for name, value in members.items()
        if not (value is None or (isinstance(value, (str, list, dict)) and not value))
    }


def _faults(version: Version) -> Iterator[Violation]:
    if not _SLUG.fullmatch(version.provider):
        yield Violation("provider", f"must match ^{_SLUG.pattern}$")
    if not version.model:
        yield Violation("model", "must not be empty")
    elif len(version.model) > MAX_MODEL_LENGTH:
        yield Violation("model", f"must be at most {MAX_MODEL_LENGTH} characters, is {len(version.model)}")
    yield from _text_faults((("model", version.model),))
    yield from _message_faults(version.messages)
    yield from _parameter_faults(version.parameters)
    for path, value in (
        ("parameters.extra", version.parameters.extra),
        ("tools", version.tools),
        ("tool_choice", version.tool_choice),
        ("response_format", version.response_format),
        ("variables_schema", version.variables_schema),
    ):
        faults = list(_json_faults(value, path, MAX_DEPTH))
        yield from faults
        if faults:
            continue
        if len(dump(value).encode()) > MAX_BYTES:
            yield Violation(path, f"must be at most {MAX_BYTES} bytes of JSON")
        elif path == "tools":
            yield from tools.faults(version.tools)
        elif path == "tool_choice":
            yield from tools.choice_faults(version.tool_choice, version.tools)


def _message_faults(messages: tuple[Message, ...]) -> Iterator[Violation]:
    if len(messages) > MAX_MESSAGES:
        yield Violation("messages", f"must be at most {MAX_MESSAGES}, are {len(messages)}")
    texts = list(_templates(messages))
    for index, message in enumerate(messages):
        path = f"messages[{index}]"
        texts += [
            (f"{path}.name", message.name),
            (f"{path}.tool_call_id", message.tool_call_id),
            (f"{path}.reasoning", message.reasoning),
        ]
        for number, part in enumerate(message.parts):
            if isinstance(part, ImagePart):
                texts.append((f"{path}.parts[{number}].detail", part.detail))
        for number, call in enumerate(message.tool_calls):
            of_call = f"{path}.tool_calls[{number}]"
            texts += [
                (f"{of_call}.id", call.id),
                (f"{of_call}.name", call.name),
                (f"{of_call}.arguments_json", call.arguments_json),
                (f"{of_call}.extra_content_json", call.extra_content_json),
            ]
        for below, wrong in faults_of(message, is_template=True):
            yield Violation(f"{path}.{below}", wrong)
    yield from _text_faults(texts)
    size = sum(len(text.encode("utf-8", "surrogatepass")) for _, text in texts)
    if size > MAX_TEXT_BYTES:
        yield Violation("messages", f"must hold at most {MAX_TEXT_BYTES} bytes of text, hold {size}")


def _parameter_faults(parameters: Parameters) -> Iterator[Violation]:
    for name, kind, low, high in _RANGES:
        value: object = getattr(parameters, name)
        path = f"parameters.{name}"
        allowed = (int, float) if kind is float else (int,)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, allowed):
            yield Violation(path, "must be a number" if kind is float else "must be an integer")
        elif isinstance(value, float) and not math.isfinite(value):
            yield Violation(path, "must be finite")
        elif not (low <= value <= (_INT64 - 1 if high is None else high)):
            limits = f"between {low} and {high}" if high is not None else f"at least {low} and fit 64 bits"
            yield Violation(path, f"must be {limits}, is {value}")
    if len(parameters.stop) > MAX_STOP_SEQUENCES:
        yield Violation("parameters.stop", f"must be at most {MAX_STOP_SEQUENCES}, are {len(parameters.stop)}")
    for index, stop in enumerate(parameters.stop):
        if not stop:
            yield Violation(f"parameters.stop[{index}]", "must not be empty")
        elif len(stop) > MAX_STOP_LENGTH:
            yield Violation(
                f"parameters.stop[{index}]", f"must be at most {MAX_STOP_LENGTH} characters, is {len(stop)}"
            )
    yield from _text_faults([(f"parameters.stop[{index}]", stop) for index, stop in enumerate(parameters.stop)])
    for name in sorted(_SET_BY_TURNOUT & parameters.extra.keys()):
        yield Violation(f"parameters.extra.{name}", "must be left out: it is set for every call")
    answers = parameters.extra.get("n")
    if answers is not None and (answers != 1 or isinstance(answers, bool)):
        # They would be paid for, and nobody would get them.
        yield Violation("parameters.extra.n", "must be 1 or left out: a call has one answer; call again for others")
    if parameters.reasoning_effort is not None:
        if not parameters.reasoning_effort:
            yield Violation("parameters.reasoning_effort", "must not be empty; leave it out instead")
        yield from _text_faults((("parameters.reasoning_effort", parameters.reasoning_effort),))


def _text_faults(texts: Sequence[tuple[str, str]]) -> Iterator[Violation]:
    for path, text in texts:
        if (wrong := fault(text)) is not None:
            yield Violation(path, wrong)


def _json_faults(value: object, path: str, levels: int) -> Iterator[Violation]:
    """Faults of a document that orjson did not parse, or that no store or provider would take."""
    if isinstance(value, str):
        yield from _text_faults(((path, value),))
    elif isinstance(value, int):
        if not -_INT64 <= value < 2 * _INT64:
            yield Violation(path, "must be an integer of at most 64 bits")
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield Violation(path, "must be finite")
    elif not isinstance(value, (dict, list)):
        if value is not None:
            yield Violation(path, "must be JSON")
    elif levels == 0:
        yield Violation(path, f"must be nested at most {MAX_DEPTH} levels deep")
    elif isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):
                yield Violation(path, "must have strings as member names")
            elif (wrong := fault(name)) is not None:
                yield Violation(path, f"has a member name that {wrong}")
            else:
                yield from _json_faults(member, f"{path}.{name}", levels - 1)
    else:
        for index, element in enumerate(value):
            yield from _json_faults(element, f"{path}[{index}]", levels - 1)
