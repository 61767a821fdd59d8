from __future__ import annotations

import logging
import subprocess
import sys

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.telemetry import JsonFormatter, TraceContext, Tracing, log_trace_id, parse_traceparent

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_traceparent_is_read_and_written_as_the_w3c_says() -> None:
    place = parse_traceparent(f"00-{TRACE}-{SPAN}-01")

    assert place == TraceContext(TRACE, SPAN, True)
    assert place.traceparent() == f"00-{TRACE}-{SPAN}-01"
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-00-what-comes-later") == TraceContext(TRACE, SPAN, False)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
    ],
)
def test_a_malformed_traceparent_is_as_good_as_none(header: str) -> None:
    assert parse_traceparent(header) is None


@given(st.text())
def test_no_text_breaks_the_reading_of_a_traceparent(header: str) -> None:
    parse_traceparent(header)


def test_without_an_exporter_nothing_is_sampled() -> None:
    tracing = Tracing(sample_ratio=1.0, resource={}, exporter=None)

    assert not tracing.begin(None).sampled


def test_a_log_line_is_one_json_object_with_its_fields_and_its_trace() -> None:
    record = logging.makeLogRecord({"msg": "something happens", "levelname": "INFO", "name": "kit", "count": 3})
    token = log_trace_id.set(TRACE)
    line = orjson.loads(JsonFormatter("ins_1").format(record))
    log_trace_id.reset(token)

    assert (line["event"], line["count"], line["trace_id"], line["instance"]) == (
        "something happens",
        3,
        TRACE,
        "ins_1",
    )


def test_a_log_line_takes_what_json_cannot() -> None:
    record = logging.makeLogRecord({"msg": "odd", "path": object(), "text": "\ud800"})

    assert orjson.loads(JsonFormatter("i").format(record))["event"] == "odd"


def test_a_caller_who_had_left_when_the_answer_was_written_is_no_error() -> None:
    program = """
import logging
from kit.telemetry import configure_logging
configure_logging(level="info", instance="ins_1")
log = logging.getLogger("grpc._cython.cygrpc")
log.error("ExecuteBatchError raised in core by servicer method [%s]", "/a.B/C")
log.error("something else")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)

    assert [orjson.loads(line)["event"] for line in done.stderr.splitlines()] == ["something else"]
