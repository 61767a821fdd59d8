"""YAML as values that know where they stand.

The words of YAML 1.2: `true` and `false` are the only truths, so that `country: no` stays a text; what is no number,
truth or null is a text, dates included. Mappings have texts as names, each once; `<<` merges. No
object is ever constructed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import yaml

from kit.errors import Invalid, Violation
from kit.json import Json, parse

MAX_BYTES: Final = 1 << 20
"""Of one file."""
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 100_000
"""Of one file, with every `*alias` counted as large as what it stands for."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml, where the wheel has it: 20 times as fast
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUTHS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,20}\Z")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_TEXT_TAG: Final = "tag:yaml.org,2002:str"

Scalar: TypeAlias = "bool | int | float | str | None"


@dataclass(frozen=True, slots=True)
class Node:
    """A value, and the line (1, 2, 3 …) that it begins in."""

    value: Scalar | list[Node] | dict[str, Node]
    line: int
    source: str
    """The file, as people named it."""

    @property
    def where(self) -> str:
        """`deployment.yaml:12`."""
        return f"{self.source}:{self.line}"

    def plain(self) -> Json:
        """The value alone."""
        if isinstance(self.value, dict):
            return {name: node.plain() for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


def refused(where: str, problem: str) -> Invalid:
    """A file that cannot be read."""
    return Invalid(f"{where}: {problem}", reason="FILE_INVALID", violations=[Violation(where, problem)])


def documents(data: bytes, *, source: str) -> list[Node]:
    """The documents of a file; empty ones are left out.

    :raises Invalid: `FILE_INVALID`, with the line
    """
    if len(data) > MAX_BYTES:
        raise refused(source, f"is too large: at most {MAX_BYTES:,} bytes are read")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise refused(f"{source}:{data.count(10, 0, error.start) + 1}", "is not UTF-8") from None
    if bad := re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", text):
        line = text.count("\n", 0, bad.start()) + 1
        raise refused(f"{source}:{line}", f"holds the control character U+{ord(bad[0]):04X}")
    try:
        found = list(_Reader(text, source).documents())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        raise refused(where, _problem(error, text, mark)) from None
    except yaml.YAMLError as error:
        raise refused(source, str(error)) from None
    return [node for node in found if node.value is not None]


def value(data: bytes, *, source: str) -> Json:
    """The one value of a file, in JSON or YAML; None if it holds none.

    :raises Invalid: `FILE_INVALID`, with the line
    """
    try:
        # By its own rules: to YAML \ud83d\ude00 are two halves, and U+2028 in a text is a line break, which it folds.
        return parse(data, field=source, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH)
    except Invalid as error:
        if error.reason != "JSON_MALFORMED":
            raise refused(source, error.violations[0].message) from None
    found = documents(data, source=source)
    if len(found) > 1:
        raise refused(found[1].where, "a second document begins here, where one alone is read")
    return found[0].plain() if found else None


def scalar(text: str) -> Scalar:
    """What a plain scalar means."""
    if text in _NULLS:
        return None
    if text in _TRUTHS:
        return _TRUTHS[text]
    if _INTEGER.match(text) and -(2**63) <= int(text) < 2**64:
        return int(text)
    # As in JSON, whole numbers that no 64 bits hold are read as near as floats are.
    return float(text) if _FLOAT.match(text) else text


def _problem(error: yaml.MarkedYAMLError, text: str, mark: Any) -> str:
    if mark is not None:
        lines = text.splitlines()
        line = lines[mark.line] if mark.line < len(lines) else ""
        if "\t" in line[: mark.column + 1]:
            return "a tab stands in the indentation; YAML is indented with spaces"
    return ", ".join(part for part in (error.context, error.problem) if part) or "is not YAML"


def _height(node: Node) -> int:
    if isinstance(node.value, dict):
        return 1 + max(map(_height, node.value.values()), default=0)
    if isinstance(node.value, list):
        return 1 + max(map(_height, node.value), default=0)
    return 0


class _Reader:
    """Builds values from events, which come one by one: what is too deep or too much is never held."""

    def __init__(self, text: str, source: str) -> None:
        self._events: Iterator[Any] = iter(yaml.parse(text, Loader=_LOADER))
        self._source = source
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._count = 0

    def documents(self) -> Iterator[Node]:
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                self._anchors = {}
                yield self._node(next(self._events), 1)

    def _node(self, event: Any, depth: int) -> Node:
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise self._refused(line, f"*{event.anchor} stands for nothing: no &{event.anchor} ends before it")
            node, size = self._anchors[event.anchor]
            self._counted(size, line)
            self._check_depth(depth + _height(node), line)
            return Node(node.value, line, self._source)
        before = self._count
        self._counted(1, line)
        self._check_depth(depth, line)
        if event.tag not in (None, "!", _TEXT_TAG):
            raise self._refused(line, f"the tag {event.tag} is not known here")
        value: Scalar | list[Node] | dict[str, Node]
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, line)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = [self._node(each, depth + 1) for each in self._until(yaml.SequenceEndEvent)]
        else:
            value = self._mapping(depth)
        node = Node(value, line, self._source)
        if event.anchor is not None:
            self._anchors[event.anchor] = node, self._count - before
        return node

    def _scalar(self, event: Any, line: int) -> Scalar:
        value = scalar(event.value) if event.implicit[0] and event.tag is None else self._text(event, line)
        if isinstance(value, float) and value in (float("inf"), float("-inf")):
            raise self._refused(line, f"{event.value} is too large a number")
        return value

    def _text(self, event: Any, line: int) -> str:
        value = str(event.value)
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self._refused(line, "holds half of a character, such as \\ud83d") from None
        return value

    def _mapping(self, depth: int) -> dict[str, Node]:
        members: dict[str, Node] = {}
        merged: list[Node] = []
        lines: dict[str, int] = {}
        for event in self._until(yaml.MappingEndEvent):
            line = event.start_mark.line + 1
            if not isinstance(event, yaml.ScalarEvent):
                raise self._refused(line, "a name in a mapping must be a text")
            self._counted(1, line)
            name = self._text(event, line)
            if event.anchor is not None:
                self._anchors[event.anchor] = Node(name, line, self._source), 1
            node = self._node(next(self._events), depth + 1)
            if name == "<<" and event.implicit[0]:
                merged += node.value if isinstance(node.value, list) else [node]
                continue
            if name in lines:
                raise self._refused(line, f"{name!r} stands in line {lines[name]} already")
            lines[name], members[name] = line, replace(node, line=line)
        for node in merged:
            if not isinstance(node.value, dict):
                raise self._refused(node.line, "<< merges mappings only")
            for name, member in node.value.items():
                members.setdefault(name, member)
        return members

    def _until(self, end: type[Any]) -> Iterator[Any]:
        for event in self._events:
            if isinstance(event, end):
                return
            yield event

    def _check_depth(self, depth: int, line: int) -> None:
        if depth > MAX_DEPTH:
            raise self._refused(line, f"is nested deeper than {MAX_DEPTH} levels")

    def _counted(self, size: int, line: int) -> None:
        self._count += size
        if self._count > MAX_VALUES:
            raise self._refused(line, f"there are more than {MAX_VALUES} values up to here, *aliases counted in full")

    def _refused(self, line: int, problem: str) -> Invalid:
        return refused(f"{self._source}:{line}", problem)
