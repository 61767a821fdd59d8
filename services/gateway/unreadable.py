"""What is answered to what is no request, in our shape: whoever speaks no HTTP, or too much of it, learns no more."""

from __future__ import annotations

from kit.errors import Invalid
from kit.http_server.answer import JSON, Answer
from kit.http_server.reader import Unreadable
from services.gateway.convert import failure


def refuse(problem: Unreadable) -> Answer:
    """The last answer of its connection.

    What others send is no error of ours, and its text is not repeated: neither to them nor in the log.
    """
    failed = failure.failure_of(_too_long() if problem is Unreadable.TOO_LONG else _malformed())
    return Answer(failed.status, {"Content-Type": JSON, **failed.headers}, failed.body)


def _too_long() -> Invalid:
    return Invalid("the request line or the headers are longer, or more, than is taken", reason="HEADERS_TOO_LARGE")


def _malformed() -> Invalid:
    return Invalid("this is not a request of HTTP/1.1", reason="HTTP_MALFORMED")
