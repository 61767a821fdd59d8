"""Finds the third-party servers where pip put them, without importing the packages around them."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from kit.errors import Precondition


def package_folder(package: str, *, distribution: str) -> Path:
    """Folder of an installed package; the package is not imported.

    :raises Precondition: `STACK_GROUP_MISSING`
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise missing(distribution)
    return Path(spec.submodule_search_locations[0]).resolve()


def installed_program(program: str, *, distribution: str) -> Path:
    """A program that a distribution put beside the interpreter.

    :raises Precondition: `STACK_GROUP_MISSING`
    """
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate())).resolve()
        if file.name == program and path.is_file():
            return path
    raise missing(distribution)


def missing(distribution: str) -> Precondition:
    """The error for a wheel that is not installed."""
    return Precondition(
        f"the package {distribution} is not installed; it belongs to the dependency group `stack`, which "
        "`make install` and all that builds on it install (by hand: uv sync --group stack)",
        reason="STACK_GROUP_MISSING",
        package=distribution,
    )
