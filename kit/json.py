"""JSON that callers send: parsed once, by orjson, inside stated limits."""

from __future__ import annotations

from typing import TypeAlias

import orjson

from kit.errors import Invalid, Violation

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""What orjson gives back for a document."""

MAX_BYTES = 1 << 20
MAX_DEPTH = 64


def parse(text: str | bytes, *, field: str, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Json:
    """Parse one document.

    :param field: path of the field in the request, for the violation
    :raises Invalid: `JSON_TOO_LARGE`, `JSON_TOO_DEEP` or `JSON_MALFORMED`, with the field and, for the last, where
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(data) > max_bytes:
        raise _invalid("JSON_TOO_LARGE", field, f"must be at most {max_bytes} bytes, is {len(data)}")
    try:
        value: Json = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _invalid("JSON_MALFORMED", field, f"is not valid JSON: {error}") from None
    # A document with few opening brackets cannot be deep, and counting them in C is all that most requests pay.
    if data.count(b"[") + data.count(b"{") > max_depth and _depth_exceeds(value, max_depth):
        raise _invalid("JSON_TOO_DEEP", field, f"must be nested at most {max_depth} levels deep")
    return value


def parse_object(
    text: str | bytes, *, field: str, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH
) -> dict[str, Json]:
    """Parse a document that must be an object; the empty text is the empty object.

    :raises Invalid: as :func:`parse`, and `JSON_NOT_OBJECT`
    """
    if not text:
        return {}
    value = parse(text, field=field, max_bytes=max_bytes, max_depth=max_depth)
    if not isinstance(value, dict):
        raise _invalid("JSON_NOT_OBJECT", field, "must be a JSON object")
    return value


def dump(value: object) -> str:
    """Compact JSON text in the order given."""
    return orjson.dumps(value).decode()


def _depth_exceeds(value: Json, limit: int) -> bool:
    level: list[Json] = [value]
    for _ in range(limit):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
            if isinstance(child, (dict, list))
        ]
        if not level:
            return False
    return True


def _invalid(reason: str, field: str, message: str) -> Invalid:
    return Invalid(f"{field} {message}", reason=reason, violations=(Violation(field, message),))
