"""What the rooms of one process share of the catalog, beside the view itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from catalog.rules import Compiler
from kit.runtime import Runtime


@asynccontextmanager
async def compiler(runtime: Runtime) -> AsyncIterator[Compiler]:
    """Keeps rules compiled for all that decides here (`await runtime.shared(compiler)`)."""
    yield Compiler()
