from __future__ import annotations

import logging
import subprocess
import sys

import orjson

from kit.telemetry import JsonFormatter, log_trace_id

TRACE = "0af7651916cd43dd8448eb211c80319c"


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
