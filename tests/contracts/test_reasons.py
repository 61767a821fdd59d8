"""Whoever calls reads the protos: what the registry refuses with must stand there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOM = ROOT / "services" / "registry"
REASON = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
CODES = {
    "ALREADY_EXISTS", "DEADLINE_EXCEEDED", "FAILED_PRECONDITION", "INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
}  # fmt: skip


def raised() -> Iterator[str]:
    """Reasons that use cases and the domain give their errors by name."""
    for folder in ("application", "domain"):
        for path in (ROOM / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    given = [word.value for word in node.keywords if word.arg == "reason"]
                    if isinstance(node.func, ast.Name) and node.func.id == "violated":
                        given += node.args[:1]
                    yield from (str(each.value) for each in given if isinstance(each, ast.Constant))


def named() -> Iterator[str]:
    """Reasons that the room's page names."""
    for quoted in re.findall(r"`([A-Z0-9_]+)`", (ROOM / "README.md").read_text()):
        if REASON.fullmatch(quoted) and not quoted.startswith("TURNOUT_"):
            yield quoted


def test_every_reason_of_the_registry_stands_in_a_comment_of_its_protos() -> None:
    told = set()
    for path in (ROOT / "protos" / "turnout" / "registry" / "v1").glob("*.proto"):
        comments = "\n".join(line for line in path.read_text().splitlines() if line.lstrip().startswith("//"))
        told |= set(REASON.findall(comments))

    # That a version was told of under another's id is between services, not for callers.
    assert sorted({*raised(), *named()} - told - CODES - {"VERSION_ID_WRONG"}) == []
