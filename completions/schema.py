"""The JSON schema of a version's variables, read from its templates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote

from completions import template
from completions.chat import Message
from completions.template.paths import Path, Step
from kit.errors import Invalid, Violation
from kit.json import Json

_MAX_LEVELS = 96
_MAX_STEPS = 10_000
_NAMING_KEYWORDS = ("properties", "patternProperties", "anyOf", "oneOf", "allOf")
"""What of a schema may say that there are variables at all."""


def variables_schema(
    messages: Sequence[Message], declared: dict[str, Json] | None, uses: Iterable[template.Uses] | None = None
) -> dict[str, Json] | None:
    """What the templates of `messages` read, with the types that `declared` gives.

    A member read (`user.name`, `user['name']`, `| items`) makes an object, an index or a loop an array; what is read
    both ways is either. What is only printed or tested has no type of its own, `{}`, and takes its declared one. Names
    that are set in the template, loop targets and `loop` are no variables, but what is read through them counts where
    it comes from; a name that is only asked for with `is defined` or given a `default` is a variable like the others.
    Required are those without which no render succeeds, members of members too: whether a call is in order must not
    depend on the variant that it gets.

    The declaration wins wherever it says something: it is kept whole, members that no template reads included, and only
    gains what it lacks. Its `$ref`s within the document are followed where the templates read deeper, and kept
    elsewhere.

    :param uses: what :func:`completions.version.validate` returned for the same messages; None: they are read again,
        at 25 ms for a large one
    :return: an object schema with its properties sorted, or None when there is no variable
    :raises Invalid: as :func:`completions.template.check`; `SCHEMA_MALFORMED` where the declaration is no schema
    """
    root = _Node()
    for one in _uses(messages) if uses is None else uses:
        for read in one.reads:
            root.insert(read)
        for place in one.required:
            root.require(place)
    merged = _Merge(declared or {}).object(root)
    return merged if any(merged.get(keyword) for keyword in _NAMING_KEYWORDS) else None


def _uses(messages: Sequence[Message]) -> Iterator[template.Uses]:
    for index, message in enumerate(messages):
        for path, text in template.texts_of(message, f"messages[{index}]"):
            yield template.uses_of(text, field=path)


@dataclass(slots=True)
class _Node:
    """A place in the variables, and what templates read below it."""

    members: dict[str, _Node] = field(default_factory=dict)
    element: _Node | None = None
    is_object: bool = False
    required: set[str] = field(default_factory=set)
    """Members without which no render succeeds."""

    @property
    def is_leaf(self) -> bool:
        return self.element is None and not self.is_object

    def insert(self, path: Path) -> None:
        node = self
        for step in path:
            if isinstance(step, str):
                node.is_object = True
                node = node.members.setdefault(step, _Node())
            elif step is Step.ANY:
                # The key is not known before rendering, and with it not whether this is an object or an array.
                return
            elif step is Step.PAIR:
                node.is_object = True
                return
            else:
                node.element = node.element or _Node()
                node = node.element

    def require(self, path: Path) -> None:
        """:param path: names only, and read"""
        node = self
        for step in path:
            if not isinstance(step, str) or step not in node.members:
                return
            node.required.add(step)
            node = node.members[step]

    def schema(self) -> dict[str, Json]:
        """What is known without a declaration."""
        array: dict[str, Json] = {}
        if self.element is not None:
            array = {"type": "array", "items": self.element.schema()}
        if not self.is_object:
            return array
        properties: dict[str, Json] = {name: self.members[name].schema() for name in sorted(self.members)}
        an_object: dict[str, Json] = {"type": "object", "properties": properties}
        if self.required:
            an_object["required"] = list[Json](sorted(self.required))
        return {"anyOf": [array, an_object]} if array else an_object


class _Merge:
    """What templates read, laid over one declaration."""

    def __init__(self, document: dict[str, Json]) -> None:
        self._document = document
        self._steps = _MAX_STEPS

    def object(self, root: _Node) -> dict[str, Json]:
        """The whole, which is an object whatever the declaration leaves out."""
        root.is_object = True
        declared = self._document
        for _ in range(_MAX_LEVELS):
            if "$ref" not in declared:
                break
            target = self._target(declared)
            if target is None:
                raise _malformed("refers to what is not in it")
            declared = target
        else:
            raise _malformed("refers to itself without end")
        if declared.get("type", "object") != "object":
            raise _malformed("must describe an object")
        return self._shaped(root, declared, _MAX_LEVELS)

    def _at(self, node: _Node, declared: Json, levels: int) -> Json:
        if node.is_leaf:
            return declared
        # References make a small document describe an endless or exponential one.
        self._steps -= 1
        if levels == 0 or self._steps < 0:
            raise _malformed("refers to itself without end, or is too large")
        if declared is True or declared == {}:
            return node.schema()
        if not isinstance(declared, dict):
            return declared
        if "$ref" in declared:
            target = self._target(declared)
            return declared if target is None else self._at(node, target, levels - 1)
        for union in ("anyOf", "oneOf"):
            branches = declared.get(union)
            if isinstance(branches, list):
                return declared | {union: [self._at(node, branch, levels - 1) for branch in branches]}
        return self._shaped(node, declared, levels)

    def _shaped(self, node: _Node, declared: dict[str, Json], levels: int) -> dict[str, Json]:
        kinds = declared.get("type")
        allowed = ("object", "array") if kinds is None else kinds if isinstance(kinds, list) else (kinds,)
        merged: dict[str, Json] = dict(declared)
        if node.is_object and "object" in allowed:
            if kinds is None and node.element is None:
                merged = {"type": "object", **merged}
            merged["properties"] = self._properties(node, declared, levels)
            if node.required:
                given = declared.get("required")
                names = [name for name in given if isinstance(name, str)] if isinstance(given, list) else []
                merged["required"] = [*names, *sorted(node.required - set(names))]
        if node.element is not None and "array" in allowed:
            if kinds is None and not node.is_object:
                merged = {"type": "array", **merged}
            items = declared.get("items", declared.get("prefixItems", True))
            # A list gives each position its own type; which of them a loop reads cannot be said.
            if not isinstance(items, list):
                merged["items"] = (
                    self._at(node.element, items, levels - 1) if items is not True else node.element.schema()
                )
        return merged

    def _properties(self, node: _Node, declared: dict[str, Json], levels: int) -> Json:
        properties = declared.get("properties", {})
        if not isinstance(properties, dict):
            raise _malformed("has properties that are not an object")
        others = declared.get("additionalProperties")
        of_others: Json = others if isinstance(others, dict) else {}
        merged: dict[str, Json] = {}
        for name in sorted({*properties, *node.members}):
            child = node.members.get(name)
            given = properties.get(name, of_others)
            merged[name] = given if child is None else self._at(child, given, levels - 1)
        return merged

    def _target(self, declared: dict[str, Json]) -> dict[str, Json] | None:
        """What `$ref` points to, with what stands beside it; None unless it is a JSON pointer into this document."""
        reference = declared["$ref"]
        if not isinstance(reference, str) or not (reference + "/").startswith("#/"):
            return None
        target: Json = self._document
        for name in unquote(reference[1:]).split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, dict) or name not in target:
                return None
            target = target[name]
        if not isinstance(target, dict):
            return None
        return target | {name: value for name, value in declared.items() if name != "$ref"}


def _malformed(message: str) -> Invalid:
    field = "variables_schema"
    return Invalid(f"{field} {message}", reason="SCHEMA_MALFORMED", violations=(Violation(field, message),))
