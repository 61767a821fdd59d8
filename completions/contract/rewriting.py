"""Schemas of several documents, rewritten to stand in one."""

from __future__ import annotations

import re
from urllib.parse import quote

from completions.contract.document import NOTES, Document
from kit.json import Json, dump

_OF_DOCUMENT = frozenset({"$schema", "$id", "$defs", "definitions", "$anchor"})
_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas"})
_VERBATIM = frozenset({"enum", "const", "default", "examples", "required", "type", "dependentRequired"})
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


def is_silent(schema: Json) -> bool:
    """Whether a schema says nothing of what is valid."""
    return schema is True or (isinstance(schema, dict) and schema.keys() <= NOTES)


class Definitions:
    """The `$defs` of a document made of others."""

    def __init__(self) -> None:
        self.schemas: dict[str, Json] = {}
        self._texts: dict[str, str] = {}
        self._suffixes: dict[str, str] = {}
        self._attempts = 1

    def add(self, root: dict[str, Json], document: Document) -> Json:
        """`root` with its references turned to these definitions, and open to members that others know.

        :param document: of `root`
        """
        schema, found = _rewritten(root, document, "")
        text = dump(found) if found else ""
        if text in self._suffixes:
            return _rewritten(root, document, self._suffixes[text])[0]
        suffix = ""
        while any(self._texts.get(name, one) != one for name, one in _texts(found).items()):
            # Names that are taken by other schemas.
            self._attempts += 1
            suffix = f"_{self._attempts}"
            schema, found = _rewritten(root, document, suffix)
        self._suffixes[text] = suffix
        self._texts.update(_texts(found))
        self.schemas.update(found)
        return schema


def _rewritten(root: dict[str, Json], document: Document, suffix: str) -> tuple[Json, dict[str, Json]]:
    names = _Names(document, suffix)
    return names.rewritten(root), names.definitions()


def _texts(schemas: dict[str, Json]) -> dict[str, str]:
    return {name: dump(schema) for name, schema in schemas.items()}


class _Names:
    """The names that one document's referenced schemas get."""

    def __init__(self, document: Document, suffix: str) -> None:
        self._document = document
        self._suffix = suffix
        self._names: dict[int, str] = {}
        self._taken: set[str] = set()
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
            name, number = word + self._suffix, 1
            while name in self._taken:
                number += 1
                name = f"{word}{number}{self._suffix}"
            self._names[key] = name
            self._taken.add(name)
            self._waiting.append((name, target))
        return f"#/$defs/{quote(self._names[key])}"
