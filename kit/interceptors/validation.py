"""Requests against the rules in their contract (protovalidate), with the path of every field that breaks one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import protovalidate
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from kit.calls import Call
from kit.errors import Invalid, Violation
from kit.interceptors.gate import Gate

PATTERNS: Final = {
    "^[a-z0-9_-]*[a-z][a-z0-9_-]*$": "must be 1 to 63 of a-z, 0-9, _ and -, with a letter among them",
    "^[a-z][a-z0-9-]{0,38}[a-z0-9]$": "must be 2 to 40 of a-z, 0-9 and -, begin with a letter and not end with -",
    "^[a-z0-9][a-z0-9_#.-]{0,62}$": "must be 1 to 63 of a-z, 0-9, _, #, . and -, and begin with a letter or digit",
    "^[a-z][a-z0-9_-]{0,62}$": "must be 1 to 63 of a-z, 0-9, _ and -, and begin with a letter",
    "^[a-z]+(:[a-z]+)?$": "must be a scope, such as deployments:run or predict",
    "^[a-z0-9]{12}$": "must be the 12 characters, of a-z and 0-9, of a key's id",
    "^[0-9a-f]{64}$": "must be 64 hexadecimal digits in lower case",
}
"""What the patterns of the contracts ask for: callers read words."""
_MAX_VIOLATIONS = 100


class Validation(Gate):
    """Interceptor: refuses a message that breaks its contract's rules. Client streams are the rpc's own care."""

    def __init__(self) -> None:
        self._validator = protovalidate.Validator()

    async def enter(self, call: Call, request: Message | None) -> None:
        if request is None:
            return
        try:
            self._validator.validate(request)
        except protovalidate.ValidationError as error:
            kind: Descriptor = request.DESCRIPTOR  # type: ignore[assignment]  # in C, with the same attributes
            violations = [_violation(found, kind) for found in error.violations[:_MAX_VIOLATIONS]]
            first = violations[0]
            more = f" (and {len(error.violations) - 1} more)" if len(error.violations) > 1 else ""
            raise Invalid(
                f"{first.field} {first.message}{more}" if first.field else f"{first.message}{more}",
                reason="INVALID_REQUEST",
                violations=violations,
            ) from None


def _violation(found: object, kind: Descriptor) -> Violation:
    proto = found.proto  # type: ignore[attr-defined]  # protovalidate 2 ships without types for it
    path = ""
    field: FieldDescriptor | None = None
    for element in proto.field.elements if proto.field is not None else ():
        path += f".{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None:
            path += f"[{getattr(subscript, 'value', subscript)}]"
        field = _field(kind if field is None else field.message_type, element.field_name)
    # The value of the rule that was broken: of `string.pattern` the pattern.
    rule = found.rule_value  # type: ignore[attr-defined]  # as above
    return Violation(path, _sentence(proto.rule_id, rule, field) or proto.message or proto.rule_id)


def _field(kind: Descriptor | None, name: str) -> FieldDescriptor | None:
    """None for what is no field by this name, such as a oneof."""
    if kind is not None and kind.GetOptions().map_entry:
        kind = kind.fields_by_name["value"].message_type
    return kind.fields_by_name.get(name) if kind is not None else None


def _sentence(rule_id: str, rule: object, field: FieldDescriptor | None) -> str | None:
    """What a rule asks for, where protovalidate's own words are not for people."""
    if rule_id == "string.pattern":
        return PATTERNS.get(str(rule))
    if rule_id.startswith("enum.") and field is not None and field.enum_type is not None:
        return f"must be one of {', '.join(_names(field.enum_type))}"
    if rule_id == "string.in" and isinstance(rule, Iterable):
        texts = [str(each) for each in rule]
        return f"must be one of {', '.join(filter(None, texts))}{', or empty' if '' in texts else ''}"
    return None


def _names(kind: EnumDescriptor) -> list[str]:
    """What an enum's values mean: `system` of ROLE_SYSTEM. The first is what was not given."""
    unspecified, *values = kind.values
    prefix = unspecified.name.removesuffix("UNSPECIFIED")
    return [value.name.removeprefix(prefix).lower() for value in values]
