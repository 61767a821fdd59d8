"""A span while it is made, and once it has ended.

The SDK's own takes some 125 µs of CPU from its start to its export (docs/decisions/0022). This one holds what is said
of it and nothing else. To the SDK's exporters that send OTLP, or keep spans in memory, it looks like their
`ReadableSpan`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from types import TracebackType
from typing import Final, Self, TypeAlias

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from kit.errors import AppError
from kit.telemetry.place import TraceContext

AttributeValue: TypeAlias = "str | int | float | bool | Sequence[str]"

SCOPE: Final = InstrumentationScope("turnout")
_FAILED: Final = Status(StatusCode.ERROR)
_UNSET: Final = Status(StatusCode.UNSET)
_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)


class Span:
    """One that is recorded. Used as a context manager it ends with the block, failed if that raises.

    :param place: its own
    :param parent: None for the root of a trace
    :param end: told once it has ended
    :param start_unix_ns: 0 is now
    """

    __slots__ = (
        "_context",
        "_end",
        "attributes",
        "end_time",
        "has_failed",
        "kind",
        "linked",
        "name",
        "parent_is_remote",
        "parent_place",
        "place",
        "resource",
        "start_time",
    )

    is_recorded = True

    # What the SDK's exporters ask for, and is the same for all.
    instrumentation_scope = SCOPE
    events: Sequence[object] = ()
    dropped_attributes = dropped_events = dropped_links = 0

    def __init__(
        self,
        name: str,
        place: TraceContext,
        kind: SpanKind,
        *,
        parent: TraceContext | None,
        parent_is_remote: bool,
        attributes: dict[str, AttributeValue],
        resource: Resource,
        end: Callable[[Span], None],
        linked: Sequence[tuple[TraceContext, bool]] = (),
        start_unix_ns: int = 0,
    ) -> None:
        self.name = name
        self.place = place
        self.kind = kind
        self.parent_place = parent
        self.parent_is_remote = parent_is_remote
        self.attributes: dict[str, AttributeValue] = attributes
        self.resource = resource
        self.has_failed = False
        self.start_time = start_unix_ns or time.time_ns()
        """Nanoseconds since 1970."""
        self.end_time = 0
        """The same; 0 before it has ended."""
        self.linked = linked
        """Other places, each with whether it is another process's."""
        self._end: Callable[[Span], None] | None = end
        self._context: SpanContext | None = None

    def set_attribute(self, name: str, value: AttributeValue) -> None:
        """Say something of it, before it has ended."""
        if self._end is not None:
            self.attributes[name] = value

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Say much of it, before it has ended."""
        if self._end is not None:
            self.attributes.update(attributes)

    def fail(self, error: str = "") -> None:
        """It is an error.

        :param error: the kind of it, as `error.type`; never its text, which may quote what somebody sent
        """
        if self._end is None:
            # The exporter may be reading it.
            return
        self.has_failed = True
        if error:
            self.attributes["error.type"] = error

    def end(self, end_unix_ns: int = 0) -> None:
        """It is over; only the first time counts.

        :param end_unix_ns: 0 is now
        """
        told, self._end = self._end, None
        if told is not None:
            self.end_time = end_unix_ns or time.time_ns()
            told(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self.fail(error.reason if isinstance(error, AppError) else type(error).__name__)
        self.end()

    # What else the SDK's exporters ask for.

    @property
    def context(self) -> SpanContext:
        """Its place."""
        if self._context is None:
            self._context = context_of(self.place, is_remote=False)
        return self._context

    def get_span_context(self) -> SpanContext:
        """Its place."""
        return self.context

    @property
    def parent(self) -> SpanContext | None:
        """Whose child it is."""
        return None if self.parent_place is None else context_of(self.parent_place, is_remote=self.parent_is_remote)

    @property
    def status(self) -> Status:
        """How it ended."""
        return _FAILED if self.has_failed else _UNSET

    @property
    def links(self) -> Sequence[Link]:
        """To other places."""
        return [Link(context_of(place, is_remote=is_remote)) for place, is_remote in self.linked]


class _NoSpan(Span):
    """Of a call that is not sampled: takes everything and keeps nothing."""

    __slots__ = ()

    is_recorded = False

    def __init__(self) -> None:
        place = TraceContext("0" * 32, "0" * 16, sampled=False)
        super().__init__(
            "",
            place,
            SpanKind.INTERNAL,
            parent=None,
            parent_is_remote=False,
            attributes={},
            resource=Resource.get_empty(),
            end=_ignore,
        )

    def set_attribute(self, name: str, value: AttributeValue) -> None:
        """Nothing."""

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Nothing."""

    def fail(self, error: str = "") -> None:
        """Nothing."""

    def end(self, end_unix_ns: int = 0) -> None:
        """Nothing."""


def context_of(place: TraceContext, *, is_remote: bool) -> SpanContext:
    """A place as the SDK writes it."""
    return SpanContext(int(place.trace_id, 16), int(place.span_id, 16), is_remote, _SAMPLED if place.sampled else None)


def _ignore(_: Span) -> None:
    """Nobody is told."""


NO_SPAN: Final[Span] = _NoSpan()

current_span: Final[ContextVar[Span | None]] = ContextVar("current_span", default=None)
"""The span of the call that this task serves; None if it is not sampled."""
