"""Places in traces, as the W3C writes them."""

from __future__ import annotations

import os
import re

from kit.values import Value

# No version ff, and no id that is all zero.
_TRACEPARENT = re.compile(r"^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$")

_IDS_AT_ONCE = 64
_ids: list[tuple[str, str]] = []


def fresh_ids() -> tuple[str, str]:
    """A trace's id and a span's. The system is asked for many at once."""
    if not _ids:
        traces = os.urandom(16 * _IDS_AT_ONCE).hex(" ", 16).split()
        spans = os.urandom(8 * _IDS_AT_ONCE).hex(" ", 8).split()
        _ids.extend(zip(traces, spans, strict=True))
    return _ids.pop()


class TraceContext(Value):
    """Where in a trace something happens (https://www.w3.org/TR/trace-context/)."""

    trace_id: str
    """32 hexadecimal digits, never all zero."""
    span_id: str
    """16 hexadecimal digits, never all zero."""
    sampled: bool

    def traceparent(self) -> str:
        """The header to send along."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def parse_traceparent(header: str) -> TraceContext | None:
    """The caller's place in a trace; None if the header is absent or malformed, as the W3C text asks."""
    match = _TRACEPARENT.match(header)
    if match is None:
        return None
    trace_id, span_id, flags = match.groups()
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & 1))
