"""Schemas of several documents, rewritten to stand in one."""

from __future__ import annotations

import re
from urllib.parse import quote

from completions.contract.document import Document
from kit.json import Json, dump

_NOTES = frozenset({"title", "description", "examples", "default", "$comment", "deprecated", "format"})
_OF_DOCUMENT = frozenset({"$schema", "$id", "$defs", "definitions", "$anchor"})
_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas"})
_VERBATIM = frozenset({"enum", "const", "default", "examples", "required", "type", "dependentRequired"})
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


def is_silent(schema: Json) -> bool:
    """Whether a schema says nothing of what is valid."""
    return schema is True or (isinstance(schema, dict) and schema.keys() <= _NOTES)


class Definitions:
    """The `$defs` of a document made of others."""

    def __init__(self) -> None:
        self.schemas: dict[str, Json] = {}

    def add(self, root: dict[str, Json]) -> Json:
        """`root` with its references turned to these definitions, and open to members that others know."""
        for attempt in range(1, len(self.schemas) + 3):
            names = _Names(root, "" if attempt == 1 else f"_{attempt}")
            schema = names.rewritten(root)
            found = names.definitions()
            if all(name not in self.schemas or dump(self.schemas[name]) == dump(one) for name, one in found.items()):
                break
        self.schemas.update(found)
        return schema


class _Names:
    """The names that one document's referenced schemas get."""

    def __init__(self, root: dict[str, Json], suffix: str) -> None:
        self._document = Document(root, "variables")
        self._suffix = suffix
        self._names: dict[int, str] = {}
        self._waiting: list[tuple[str, Json]] = []

    def definitions(self) -> dict[str, Json]:
        found: dict[str, Json] = {}
        while self._waiting:
            name, schema = self._waiting.pop()
            found[name] = self.rewritten(schema)
        return found

    def rewritten(self, schema: Json) -> Json:
        if not isinstance(schema, dict):
            return schema
        changed: dict[str, Json] = {}
        for keyword, value in schema.items():
            if keyword in _OF_DOCUMENT or (keyword in ("additionalProperties", "unevaluatedProperties") and not value):
                continue
            if keyword == "$ref":
                changed[keyword] = self._reference(str(value), self._document.target(id(schema)))
            elif keyword in _MAPS and isinstance(value, dict):
                changed[keyword] = {name: self.rewritten(part) for name, part in value.items()}
            elif keyword in _VERBATIM:
                changed[keyword] = value
            elif isinstance(value, list):
                changed[keyword] = [self.rewritten(part) for part in value]
            else:
                changed[keyword] = self.rewritten(value)
        return changed

    def _reference(self, pointer: str, target: Json) -> str:
        # All references to one `false` may share a definition; `true` has its own.
        key = id(target) if isinstance(target, dict) else -1 - bool(target)
        if key not in self._names:
            word = _UNSAFE.sub("_", pointer.rsplit("/", 1)[-1].removeprefix("#"))[:40] or "Root"
            taken = set(self._names.values())
            name, number = word + self._suffix, 1
            while name in taken:
                number += 1
                name = f"{word}{number}{self._suffix}"
            self._names[key] = name
            self._waiting.append((name, target))
        return f"#/$defs/{quote(self._names[key])}"
