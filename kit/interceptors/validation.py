"""Requests against the rules in their contract (protovalidate), with the path of every field that breaks one."""

from __future__ import annotations

import grpc
import protovalidate
from google.protobuf.message import Message

from kit.calls import Call
from kit.errors import Invalid, Violation

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
    return Violation(path, proto.message or proto.rule_id)
