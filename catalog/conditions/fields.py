"""The fields of a call's context that a deployment's rules may ask about, declared with their kinds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from kit.values import Value

MAX_FIELDS = 64
"""Of one deployment."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

# The CEL specification's RESERVED and literals, lower case; after a dot they are syntax errors in some readers.
_RESERVED = frozenset(
    {
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "var",
        "void",
        "while",
    }
)


class FieldKind(StrEnum):
    """What a field holds, once coerced."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    LIST = "list"


class Field(Value):
    """One member of the context: conditions read it as `context.<name>`, and ask for it with `present.<name>`."""

    name: str
    kind: FieldKind


def faults_of(fields: Sequence[Field]) -> tuple[tuple[int, str], ...]:
    """What is wrong with a declaration: the place of each bad field and a sentence; nothing if it is good."""
    faults: list[tuple[int, str]] = []
    seen: set[str] = set()
    for index, field in enumerate(fields):
        if index == MAX_FIELDS:
            faults.append((index, f"a deployment declares at most {MAX_FIELDS} fields; take this and the rest away"))
            break
        if not _NAME.fullmatch(field.name):
            faults.append((index, "a field's name is a lower-case letter, then up to 62 of a-z, 0-9 and _"))
        elif field.name in _RESERVED:
            faults.append((index, f"{field.name!r} is a word of the condition language; give the field another name"))
        elif field.name in seen:
            faults.append((index, f"the field {field.name!r} is declared twice; take one away"))
        seen.add(field.name)
    return tuple(faults)
