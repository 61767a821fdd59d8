from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from kit.errors import Unavailable
from kit.telemetry import NO_SPAN, PastSpan, Span, TraceContext, Tracing
from tests.served import under

FAR = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)


class Traced:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracing = Tracing(sample_ratio=1, resource={"service.name": "test"}, exporter=self.exporter)

    def call(self) -> Span:
        span = self.tracing.server_span("call", self.tracing.begin(None), is_root=True)
        assert span is not None
        return span

    def ended(self) -> list[Any]:
        self.tracing.shutdown()
        return list(self.exporter.get_finished_spans())


def test_without_an_exporter_nothing_is_sampled() -> None:
    tracing = Tracing(sample_ratio=1.0, resource={}, exporter=None)

    assert not tracing.begin(None).sampled
    assert tracing.server_span("call", FAR, is_root=False) is None
    tracing.tell_afterwards(FAR, PastSpan("call", SpanKind.SERVER, 1, 2, {}))
    with tracing.linked_span("process", [FAR]):
        pass
    tracing.shutdown()


def test_the_root_of_a_trace_is_where_the_call_was_said_to_be() -> None:
    traced = Traced()
    place = traced.tracing.begin(None)
    root = traced.tracing.server_span("call", place, is_root=True)
    assert root is not None
    root.end()

    [span] = traced.ended()
    assert root.place == place
    assert (f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}") == (place.trace_id, place.span_id)
    assert span.parent is None
    assert span.resource.attributes["service.name"] == "test"
    assert 0 < span.start_time <= span.end_time


def test_a_call_of_somebody_else_s_trace_is_a_child_there_unless_that_is_not_sampled() -> None:
    traced = Traced()
    unsampled = TraceContext(FAR.trace_id, FAR.span_id, sampled=False)
    assert traced.tracing.begin(FAR) is FAR
    assert traced.tracing.server_span("call", unsampled, is_root=False) is None
    child = traced.tracing.server_span("call", FAR, is_root=False)
    assert child is not None
    child.end()

    [span] = traced.ended()
    assert child.place.trace_id == FAR.trace_id
    assert child.place.span_id != FAR.span_id
    assert (f"{span.parent.span_id:016x}", span.parent.is_remote) == (FAR.span_id, True)


def test_work_of_a_call_is_its_child_and_of_none_is_nothing() -> None:
    traced = Traced()
    assert traced.tracing.span("work", SpanKind.CLIENT, {"n": 1}) is NO_SPAN
    sampled = [traced.tracing.is_sampled]
    with traced.call() as call, under(call):
        sampled.append(traced.tracing.is_sampled)
        attributes = {"n": 1}
        with traced.tracing.span("work", SpanKind.CLIENT, attributes) as work:
            work.set_attribute("n", 2)
            work.set_attributes({"more": "yes"})
        work.end()
        work.set_attribute("n", 3)
        work.set_attributes({"late": 1})
        work.fail("LATE")

    inner, outer = traced.ended()
    assert sampled == [False, True]
    assert (inner.name, inner.kind, dict(inner.attributes)) == ("work", SpanKind.CLIENT, {"n": 2, "more": "yes"})
    assert (inner.parent.span_id, inner.parent.is_remote) == (outer.context.span_id, False)
    assert inner.status.status_code is StatusCode.UNSET
    assert attributes == {"n": 1}, "what was given stays the giver's"


@pytest.mark.parametrize(
    ("error", "kind"),
    [(Unavailable("quotes", reason="PROVIDER_FAILED"), "PROVIDER_FAILED"), (KeyError("k"), "KeyError")],
)
def test_what_is_raised_marks_a_span_by_its_kind_alone(error: Exception, kind: str) -> None:
    traced = Traced()
    with pytest.raises(type(error)), traced.call():
        raise error

    [span] = traced.ended()
    assert (span.status.status_code, dict(span.attributes)) == (StatusCode.ERROR, {"error.type": kind})
    assert span.status.description is None
    assert span.events == ()


def test_whoever_leaves_is_no_error() -> None:
    traced = Traced()
    with pytest.raises(GeneratorExit), traced.call():
        raise GeneratorExit

    [span] = traced.ended()
    assert span.status.status_code is StatusCode.UNSET


def test_nothing_is_kept_of_what_is_said_of_no_span() -> None:
    span = NO_SPAN
    span.set_attribute("a", 1)
    span.set_attributes({"b": 2})
    span.fail("X")
    with pytest.raises(KeyError), span:
        raise KeyError
    span.end()

    assert (span.attributes, span.has_failed, span.end_time, span.is_recorded) == ({}, False, 0, False)


def test_a_batch_is_linked_to_each_sampled_trace_and_each_to_it() -> None:
    traced = Traced()
    others = [TraceContext(f"{n:032x}", f"{n:016x}", sampled=n != 2) for n in (1, 2, 3)]
    sampled: list[bool] = []

    def work() -> None:
        with traced.tracing.linked_span("process", others):
            sampled.append(traced.tracing.is_sampled)
            raise KeyError

    with pytest.raises(KeyError):
        work()

    *own, batch = traced.ended()
    assert (sampled, traced.tracing.is_sampled) == ([True], False)
    assert batch.parent is None
    assert [link.context.trace_id for link in batch.links] == [1, 3]
    assert sorted(span.parent.trace_id for span in own) == [1, 3]
    for span in own:
        assert [(link.context.span_id, link.context.is_remote) for link in span.links] == [
            (batch.context.span_id, False)
        ]
        assert (span.status.status_code, span.attributes["error.type"]) == (StatusCode.ERROR, "KeyError")


def test_what_is_told_afterwards_is_a_tree_in_the_caller_s_trace() -> None:
    traced = Traced()
    attempt = PastSpan("chat", SpanKind.CLIENT, 20, 30, {"n": 1}, error="TIMEOUT")
    place = TraceContext(FAR.trace_id, FAR.span_id, sampled=False)
    traced.tracing.tell_afterwards(place, PastSpan("Run", SpanKind.SERVER, 10, 40, {}, children=[attempt]))

    chat, run = traced.ended()
    assert (run.start_time, run.end_time, chat.start_time, chat.end_time) == (10, 40, 20, 30)
    assert (f"{run.parent.span_id:016x}", chat.parent.span_id) == (FAR.span_id, run.context.span_id)
    assert (chat.status.status_code, dict(chat.attributes)) == (StatusCode.ERROR, {"n": 1, "error.type": "TIMEOUT"})
    assert run.status.status_code is StatusCode.UNSET
