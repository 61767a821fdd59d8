"""Calls that a test serves itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kit.telemetry import Span, current_span


@contextmanager
def under(span: Span) -> Iterator[None]:
    """Inside, the call of this span is served."""
    token = current_span.set(span)
    try:
        yield
    finally:
        current_span.reset(token)
