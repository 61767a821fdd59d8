"""Requests against the rules in their contract (protovalidate), with the path of every field that breaks one."""

from __future__ import annotations

from typing import Final

import grpc
import protovalidate
from google.protobuf.message import Message

from kit.calls import Call
from kit.errors import Invalid, Violation

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


class Validation:
    """Interceptor: refuses a message that breaks its contract's rules. Client streams are the rpc's own care."""

    def __init__(self) -> None:
        self._validator = protovalidate.Validator()

    async def enter(self, call: Call, request: Message | None) -> None:
        if request is None:
            return
        try:
            self._validator.validate(request)
        except protovalidate.ValidationError as error:
            violations = [_violation(found) for found in error.violations[:_MAX_VIOLATIONS]]
            first = violations[0]
            more = f" (and {len(error.violations) - 1} more)" if len(error.violations) > 1 else ""
            raise Invalid(
                f"{first.field} {first.message}{more}" if first.field else f"{first.message}{more}",
                reason="INVALID_REQUEST",
                violations=violations,
            ) from None

    def leave(self, call: Call, error: BaseException | None, code: grpc.StatusCode) -> None:
        """Nothing to undo."""


def _violation(found: object) -> Violation:
    proto = found.proto  # type: ignore[attr-defined]  # protovalidate 2 ships without types for it
    path = ""
    for element in proto.field.elements if proto.field is not None else ():
        path += f".{element.field_name}" if path else element.field_name
        subscript = element.subscript
        if subscript is not None:
            path += f"[{getattr(subscript, 'value', subscript)}]"
    # The value of the rule that was broken: of `string.pattern` the pattern.
    rule = found.rule_value  # type: ignore[attr-defined]  # as above
    sentence = PATTERNS.get(rule) if proto.rule_id == "string.pattern" else None
    return Violation(path, sentence or proto.message or proto.rule_id)
