"""Log lines as JSON, each with the trace that it belongs to."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Final

import orjson

log_trace_id: Final[ContextVar[str]] = ContextVar("log_trace_id", default="")
"""The trace id that log lines of this task carry."""

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A log line as one JSON object: what happened, and fields given by `extra=`. Never payloads, never credentials."""

    def __init__(self, instance: str) -> None:
        super().__init__()
        self._instance = instance

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            "instance": self._instance,
        }
        if trace_id := log_trace_id.get():
            line["trace_id"] = trace_id
        line.update((key, value) for key, value in record.__dict__.items() if key not in _STANDARD)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
        except TypeError:
            # Lone surrogates, or integers past 64 bits: a log line must not be lost to what it tells of.
            clean = {name: str(value).encode("utf-8", "replace").decode() for name, value in line.items()}
            return orjson.dumps(clean).decode()


def _is_news(record: logging.LogRecord) -> bool:
    """All but that a caller had left when its answer was written: gRPC tells of it as an error, with a traceback, where
    the answer was on its way before the news came."""
    return not record.getMessage().startswith("ExecuteBatchError raised in core")


def configure_logging(*, level: str, instance: str) -> None:
    """Log to standard error, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(instance))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Its chatter about plugins is for Alembic's own developers, and begins while it is imported.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_news)
