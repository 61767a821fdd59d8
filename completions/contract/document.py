"""One JSON schema document, checked whole before anything is concluded from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias
from urllib.parse import unquote

from completions.contract import paths
from kit.errors import Invalid, Violation
from kit.json import MAX_BYTES, Json, dump

Schema: TypeAlias = dict[str, Json]
Place: TypeAlias = frozenset[int]
"""Schemas that one value must satisfy together, by :meth:`Document.key`; the empty set says nothing of the value."""

ANYTHING: Place = frozenset()
_NOTHING = 0
"""The key of `false`."""

TYPES = frozenset({"null", "boolean", "object", "array", "number", "integer", "string"})
MAX_SCHEMAS = 4_000
MAX_CONSTANTS = 15_000
MAX_UNFOLDED = 1_000
MAX_CHAIN = 64
"""Schemas that may lead to each other without a step into the value: `$ref`, `allOf`, `anyOf`, `oneOf`."""

_REFERENCE = frozenset({"$ref", "$defs", "definitions", "title", "description", "default", "examples"})
NOTES = frozenset({"title", "description", "examples", "default", "$comment", "deprecated", "format"})
"""Keywords that say nothing of what is valid: formats are not checked."""
SAME_LISTS = ("allOf", "anyOf", "oneOf")
"""Keywords with schemas for the same value."""
_LEADING = frozenset({"$ref", *SAME_LISTS})
_LISTS = (*SAME_LISTS, "prefixItems")
_MAPS = ("properties", "patternProperties", "dependentSchemas", "$defs", "definitions")
SINGLES = (
    "items",
    "additionalProperties",
    "additionalItems",
    "contains",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "not",
    "if",
    "then",
    "else",
)
_HOLDING = frozenset({*_LISTS, *_MAPS, *SINGLES})
_CHECKED = frozenset({"$dynamicRef", "$recursiveRef", "enum", "required", *SAME_LISTS})


class Document:
    """A schema whose keywords have the right form and whose references lead somewhere inside it.

    :param root: the document
    :param path: what it describes, for errors: `variables`
    :raises Invalid: `SCHEMA_MALFORMED`; `SCHEMA_REFERENCE_EXTERNAL` and `SCHEMA_REFERENCE_DANGLING`;
        `SCHEMA_TOO_LARGE` beyond 1 MiB, 4,000 schemas, 15,000 values of enums, a chain of 64 references, or 1,000
        schemas for one value
    """

    def __init__(self, root: Json, path: str) -> None:
        self.path = path
        self.has_lists_of_items = False
        """Whether it describes tuples as it was done before 2020-12."""
        self.most_required = 0
        """Names that one schema requires, at most."""
        self._root = root
        self._schemas: dict[int, Schema] = {}
        self._targets: dict[int, Json] = {}
        self._measure()
        self._walk()
        self._heights: dict[int, int] = {}
        self._weights: dict[int, int] = {}
        leading = [key for key, schema in self._schemas.items() if not _LEADING.isdisjoint(schema)]
        for key in leading:
            self._height(key, MAX_CHAIN)
        self.weight = max(map(self._unfolded, leading), default=1)
        """Schemas that one value is held against, at most."""

    @property
    def root(self) -> Place:
        return self.place(self._root)

    def place(self, schema: Json) -> Place:
        """Where one schema of this document stands alone. A mere reference is what it refers to."""
        while isinstance(schema, dict) and schema.keys() <= _REFERENCE and id(schema) in self._targets:
            schema = self._targets[id(schema)]
        return ANYTHING if schema is True else frozenset((self.key(schema),))

    def key(self, schema: Json) -> int:
        """A name for a schema of this document; one that is new, such as an inferred one, joins it."""
        if not isinstance(schema, dict):
            return _NOTHING
        key = id(schema)
        self._schemas.setdefault(key, schema)
        return key

    def schema(self, key: int) -> Schema | None:
        """The schema of that name; None for `false`, which nothing satisfies."""
        return self._schemas.get(key)

    def target(self, key: int) -> Json | None:
        """What the schema's `$ref` points to, if it has one."""
        return self._targets.get(key)

    def _measure(self) -> None:
        try:
            size = len(dump(self._root).encode())
        except TypeError:
            raise malformed(self.path, "must be JSON: in UTF-8, numbers of 64 bits, nested moderately") from None
        if size > MAX_BYTES:
            raise too_large(self.path, f"must be at most {MAX_BYTES} bytes of JSON, is {size}")

    def _walk(self) -> None:
        waiting: list[tuple[Json, str]] = [(self._root, self.path)]
        visits = constants = 0
        while waiting:
            schema, path = waiting.pop()
            visits += 1
            if visits > 2 * MAX_SCHEMAS:
                raise too_large(self.path, f"must hold at most {MAX_SCHEMAS} schemas")
            if isinstance(schema, bool):
                continue
            if not isinstance(schema, dict):
                raise malformed(path, "must be a schema: an object, true or false")
            if id(schema) in self._schemas:
                continue
            if len(self._schemas) == MAX_SCHEMAS:
                raise too_large(self.path, f"must hold at most {MAX_SCHEMAS} schemas")
            self._schemas[id(schema)] = schema
            _check_keywords(schema, path)
            if isinstance(required := schema.get("required"), list):
                self.most_required = max(self.most_required, len(required))
            if isinstance(enum := schema.get("enum"), list):
                constants += len(enum)
                if constants > MAX_CONSTANTS:
                    raise too_large(path, f"must enumerate at most {MAX_CONSTANTS} values in all")
            self.has_lists_of_items |= isinstance(schema.get("items"), list)
            if "$id" in schema and schema is not self._root:
                raise malformed(path, "must not have an $id of its own, which would change what $ref means")
            # Definitions first, so that they are looked at last, and faults are named where they are used.
            if not _HOLDING.isdisjoint(schema):
                waiting.extend(reversed(list(_parts(schema, path))))
            if "$ref" in schema:
                target = self._resolve(schema["$ref"], path)
                self._targets[id(schema)] = target
                waiting.append((target, path))

    def _resolve(self, reference: Json, path: str) -> Json:
        if not isinstance(reference, str):
            raise malformed(path, "must have a $ref that is a string")
        pointer = unquote(reference[1:])
        if not reference.startswith("#") or (pointer and not pointer.startswith("/")):
            raise _refused(
                path,
                "must refer only to its own document, with a JSON pointer such as #/$defs/Name",
                "SCHEMA_REFERENCE_EXTERNAL",
            )
        target: Json = self._root
        for name in pointer.split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if isinstance(target, dict) and name in target:
                target = target[name]
            elif isinstance(target, list) and name.isdecimal() and name.isascii() and len(name) < 7:
                if int(name) >= len(target):
                    raise _dangling(path, reference)
                target = target[int(name)]
            else:
                raise _dangling(path, reference)
        if not isinstance(target, (dict, bool)):
            raise _dangling(path, reference)
        return target

    def _unfolded(self, key: int) -> int:
        """How many schemas one value is held against: references make it grow with two to the power of the document."""
        if key not in self._weights:
            parts = [part for part in self._following(key) if isinstance(part, dict)]
            # A chain without a branch is one schema.
            self._weights[key] = sum(self._unfolded(id(part)) for part in parts) if parts else 1
            if self._weights[key] > MAX_UNFOLDED:
                raise too_large(self.path, f"must not unfold to more than {MAX_UNFOLDED} schemas in one place")
        return self._weights[key]

    def _following(self, key: int) -> list[Json]:
        """What the same value must satisfy too: what the schema refers to, and its branches."""
        if _LEADING.isdisjoint(self._schemas[key]):
            return []
        following: list[Json] = [self._targets[key]] if key in self._targets else []
        for keyword in SAME_LISTS:
            branches = self._schemas[key].get(keyword)
            if isinstance(branches, list):
                following += branches
        return following

    def _height(self, key: int, left: int) -> int:
        """How many schemas follow this one without a step into the value; refuses a circle, which describes nothing."""
        known = self._heights.get(key)
        if known == -1:
            raise malformed(self.path, "refers to itself without end")
        if left == 0 or (known is not None and known > left):
            raise too_large(self.path, f"must not chain more than {MAX_CHAIN} references")
        if known is not None:
            return known
        self._heights[key] = -1
        parts = (part for part in self._following(key) if isinstance(part, dict))
        height = 1 + max((self._height(id(part), left - 1) for part in parts), default=0)
        self._heights[key] = height
        return height


def malformed(path: str, message: str) -> Invalid:
    """A schema that is none, with where and why."""
    return _refused(path, message, "SCHEMA_MALFORMED")


def too_large(path: str, message: str) -> Invalid:
    """A schema that cannot be judged in bounded time."""
    return _refused(path, message, "SCHEMA_TOO_LARGE")


def _dangling(path: str, reference: str) -> Invalid:
    where = paths.member("", reference)[1:-1] if len(reference) > 1 else reference
    return _refused(path, f"refers to {where}, which is no schema of the document", "SCHEMA_REFERENCE_DANGLING")


def _refused(path: str, message: str, reason: str) -> Invalid:
    return Invalid(f"{path} {message}", reason=reason, violations=(Violation(path, message),))


def _check_keywords(schema: Schema, path: str) -> None:
    kind = schema.get("type", "object")
    if isinstance(kind, str) and kind in TYPES and _CHECKED.isdisjoint(schema):
        return
    for keyword in ("$dynamicRef", "$recursiveRef"):
        if keyword in schema:
            raise malformed(path, f"must use $ref instead of {keyword}")
    if "type" in schema:
        kinds = schema["type"]
        named = kinds if isinstance(kinds, list) and kinds else [kinds]
        if not all(isinstance(kind, str) and kind in TYPES for kind in named):
            raise malformed(path, f"must have a type that is one or more of {', '.join(sorted(TYPES))}")
    if not isinstance(schema.get("enum", []), list):
        raise malformed(path, "must have an enum that is a list")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise malformed(path, "must have a list of names as required")
    for keyword in SAME_LISTS:
        if keyword in schema and not schema[keyword]:
            raise malformed(path, f"must have at least one schema in {keyword}")


def _parts(schema: Schema, path: str) -> Iterator[tuple[Json, str]]:
    for keyword in _LISTS:
        if keyword in schema:
            listed = schema[keyword]
            if not isinstance(listed, list):
                raise malformed(path, f"must have a list as {keyword}")
            for index, part in enumerate(listed):
                yield part, f"{path}[{index}]" if keyword == "prefixItems" else path
    for keyword in SINGLES:
        if keyword in schema:
            part = schema[keyword]
            if keyword == "items":
                # Before 2020-12 a list gave each position its own schema.
                for one in part if isinstance(part, list) else (part,):
                    yield one, paths.element(path)
            else:
                yield part, paths.values(path) if keyword == "additionalProperties" else path
    for keyword in _MAPS:
        if keyword in schema:
            named = schema[keyword]
            if not isinstance(named, dict):
                raise malformed(path, f"must have an object as {keyword}")
            within = path if keyword == "properties" else paths.member(path, keyword)
            for name, part in named.items():
                yield part, paths.member(within, name)
