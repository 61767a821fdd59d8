from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import SpanKind

from kit.telemetry import Span, TraceContext, otlp_exporter
from kit.telemetry.otlp import request_of

RESOURCE = Resource.create({"service.name": "test", "service.instance.id": "ins_1"})
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)
VALUES = st.one_of(
    TEXTS,
    st.booleans(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=False),
    st.lists(TEXTS, max_size=3).map(tuple),
)
PLACES = st.builds(
    lambda trace, span: TraceContext(f"{trace:032x}", f"{span:016x}", sampled=True),
    st.integers(1, (1 << 128) - 1),
    st.integers(1, (1 << 64) - 1),
)


@st.composite
def spans(draw: st.DrawFn) -> Span:
    span = Span(
        draw(TEXTS),
        draw(PLACES),
        draw(st.sampled_from(SpanKind)),
        parent=draw(st.none() | PLACES),
        parent_is_remote=False,
        attributes=draw(st.dictionaries(TEXTS, VALUES, max_size=5)),
        resource=RESOURCE,
        end=lambda _: None,
        linked=draw(st.lists(st.tuples(PLACES, st.booleans()), max_size=2)),
        start_unix_ns=draw(st.integers(1, (1 << 63) - 1)),
    )
    span.parent_is_remote = span.parent_place is not None and draw(st.booleans())
    if draw(st.booleans()):
        span.fail(draw(TEXTS))
    span.end(draw(st.integers(1, (1 << 63) - 1)))
    return span


@given(st.lists(spans(), min_size=1, max_size=4))
def test_what_is_sent_is_what_the_sdk_would_send(some: list[Span]) -> None:
    ours, theirs = request_of(some), encode_spans(cast("Any", some))

    # Of a span that did not fail, it says so in an empty message; that is what it means to leave it out.
    for span in theirs.resource_spans[0].scope_spans[0].spans:
        if not span.status.ByteSize():
            span.ClearField("status")
    assert ours == theirs


@pytest.mark.parametrize("value", [None, "\ud800", 1 << 64, b"x", ("\ud800",), (1,), KeyError("k")], ids=repr)
def test_what_cannot_be_sent_keeps_nothing_else_back(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    place = TraceContext("a" * 32, "b" * 16, sampled=True)
    attributes: Any = {"before": 1, "odd": value, "after": "x"}
    span = Span(
        "name \ud800",
        place,
        SpanKind.CLIENT,
        parent=None,
        parent_is_remote=False,
        attributes=attributes,
        resource=Resource({"team": "caf\udce9", "other": "1"}),
        end=lambda _: None,
    )
    span.end()

    [of_resource] = request_of([span]).resource_spans

    [sent] = of_resource.scope_spans[0].spans
    assert sent.name == "name ?"
    assert [pair.key for pair in sent.attributes] == ["before", "after"]
    assert [pair.key for pair in of_resource.resource.attributes] == ["other"]
    assert {record.__dict__["attribute"] for record in caplog.records} == {"odd", "team"}


@pytest.mark.parametrize(("said", "is_off"), [("true", True), (" TRUE ", True), ("false", False), ("", False)])
def test_opentelemetry_s_own_switch_turns_it_off(said: str, is_off: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", said)

    assert (otlp_exporter("http://127.0.0.1:4317", "") is None) is is_off
