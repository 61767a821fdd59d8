"""What a call may bring, checked before it is routed, so that validity never depends on the draw. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, Final

from completions.chat import Message, faults_of
from completions.tools import fits
from completions.version import Parameters, Version, validate
from kit import json, storable
from kit.errors import Invalid, Violation
from kit.json import Json
from services.executor.domain import Overrides, RunCall

MAX_VARIABLES_BYTES: Final = 256 << 10
MAX_METADATA_BYTES: Final = 16 << 10
_TEXTS: Final = ("identity.id", "thread", "routing_key", "user", "trace_id")


def check(call: RunCall) -> dict[str, Json]:
    """The variables of a call whose input is in order.

    :raises Invalid: `JSON_…` as `kit.json` says; `TEXT_NOT_STORABLE` as `kit.storable`, for what is kept with the log
    """
    variables = json.parse_object(call.variables_json, field="variables_json", max_bytes=MAX_VARIABLES_BYTES)
    if call.metadata_json:
        storable.check_object(call.metadata_json, field="metadata_json", max_bytes=MAX_METADATA_BYTES)
    texts = (call.identity, call.thread, call.routing_key, call.user, call.caller_trace_id)
    if "\0" in "".join(texts):
        storable.check_texts(zip(_TEXTS, texts, strict=True))
    return variables


def check_rendered(messages: Sequence[Message]) -> None:
    """What became of a version's templates: a picture's address may come with a variable, and be none that a caller may
    give.

    :raises Invalid: `VARIABLES_INVALID`
    """
    for index, message in enumerate(messages):
        if message.parts:
            for path, wrong in faults_of(message, is_template=False):
                if path.endswith(".url"):
                    told = f"makes no picture's address of the version's messages[{index}].{path}, which {wrong}"
                    fault = Violation("variables_json", told)
                    raise Invalid(f"{fault.field} {told}", reason="VARIABLES_INVALID", violations=(fault,))


def unfilled(refusal: Invalid, *, is_direct: bool) -> Invalid:
    """Why templates did not take the call's variables, by paths of the call: only a direct completion brings templates,
    and a deployment's must not be looked for among the messages that a call gives.

    :param refusal: of the rendering
    """
    faults = refusal.violations
    if not faults or not faults[0].field.startswith("messages["):
        return refusal
    if is_direct:
        told = [Violation(f"direct.{each.field}", each.message) for each in faults]
    else:
        told = [
            Violation("variables_json", f"cannot be filled into the version's {each.field}: {each.message}")
            for each in faults
        ]
    return Invalid(f"{told[0].field} {told[0].message}", reason=refusal.reason, violations=told)


def laid_over(version: Version, overrides: Overrides) -> Version:
    """The version as one call wants it: what the call gives wins, parameter by parameter, and of the extra ones member
    by member. Where it gives other tools and no choice among them, a choice of the version's that is none among these
    falls away, as any does without tools.

    :raises Invalid: as `completions.version.validate`
    """
    given: dict[str, Any] = {}
    if overrides.parameters is not None:
        given["parameters"] = _merged(version.parameters, overrides.parameters)
    for name in ("tools", "tool_choice", "response_format"):
        if (value := getattr(overrides, name)) is not None:
            given[name] = value
    # Only what the call brings: the registry has checked the rest. A choice is one among the tools that there will be.
    below = {} if overrides.tool_choice is None else {"tools": version.tools}
    validate(Version("any", "any", **below | given))
    if overrides.tools is not None and overrides.tool_choice is None:
        choice = version.tool_choice
        given["tool_choice"] = choice if overrides.tools and fits(choice, overrides.tools) else None
    return replace(version, **given)


@contextmanager
def below(field: str) -> Iterator[None]:
    """What is refused inside has its path below `field` of the request, unless it says so itself."""
    try:
        yield
    except Invalid as error:
        if not error.violations or error.violations[0].field.startswith(f"{field}."):
            raise
        found = [Violation(f"{field}.{each.field}", each.message) for each in error.violations]
        words = f"{found[0].field} {found[0].message}"
        raise Invalid(words, reason=error.reason, violations=found) from None


def _merged(base: Parameters, over: Parameters) -> Parameters:
    given = {each.name: getattr(over, each.name) for each in fields(Parameters)}
    kept = {name: value for name, value in given.items() if value not in (None, (), {})}
    return replace(base, **kept | {"extra": {**base.extra, **over.extra}})
