"""What went wrong outside, in the words of `kit.errors`.

Messages and metadata hold scheme, host and port only. aiohttp's own errors quote URLs with their query, so what is made
here must be raised outside the handler of the error it is made from: not even as hidden context may that one travel.
"""

from __future__ import annotations

import errno
import ssl
from enum import Enum

import aiohttp
from aiohttp.http_exceptions import ContentEncodingError

from kit.egress.resolver import AddressRefused
from kit.errors import AppError, Denied, Invalid, Unavailable, Violation


class Phase(Enum):
    """How far a request had come."""

    FIRST_BYTE = "first_byte"
    """Up to the status and the headers of the answer."""
    READ = "read"
    """Inside the body of the answer."""


class NotHttp(aiohttp.ClientError):
    """The head of an answer cannot be read."""


class ForgottenBody(aiohttp.ClientPayloadError):
    """The connection is closed and the body was neither ended nor failed by aiohttp."""


def failure_of(error: Exception, origin: str, phase: Phase) -> AppError:
    """The failure that an error of aiohttp means.

    :param origin: scheme, host and port
    """
    if isinstance(error, TimeoutError):
        return _timeout(error, origin, phase)
    if isinstance(error, aiohttp.ClientConnectorError):
        return _no_connection(error, origin)
    if isinstance(error, (NotHttp, ForgottenBody)):
        return malformed(origin)
    if isinstance(error.__cause__, ContentEncodingError):
        return malformed(origin)
    if isinstance(error, aiohttp.ClientError):
        return connection_failed(origin, "the connection broke before the answer was complete", "DISCONNECTED")
    # What remains is a ValueError about characters that have no place in a request's method or headers.
    return invalid_request("headers", "must not hold control characters")


def refused(origin: str) -> Denied:
    """`EGRESS_ADDRESS_REFUSED`."""
    return Denied(
        f"{origin} may not be called: it is in a private or special network that this installation does not allow",
        reason="EGRESS_ADDRESS_REFUSED",
        origin=origin,
    )


def malformed(origin: str) -> Unavailable:
    """`EGRESS_MALFORMED_RESPONSE`."""
    return Unavailable(
        f"{origin} answered with something that is not HTTP", reason="EGRESS_MALFORMED_RESPONSE", origin=origin
    )


def too_large(origin: str, limit: int) -> Unavailable:
    """`EGRESS_RESPONSE_TOO_LARGE`; `limit` in bytes, after decompression."""
    return Unavailable(
        f"{origin} answered with more than {limit} bytes",
        reason="EGRESS_RESPONSE_TOO_LARGE",
        origin=origin,
        limit_bytes=str(limit),
    )


def invalid_request(field: str, message: str) -> Invalid:
    """`EGRESS_REQUEST_INVALID`: what the caller wants sent cannot be."""
    return Invalid(
        f"the request cannot be sent: {field} {message}",
        reason="EGRESS_REQUEST_INVALID",
        violations=(Violation(field, message),),
    )


def connection_failed(origin: str, what: str, cause: str) -> Unavailable:
    """`EGRESS_CONNECTION_FAILED`; `cause` is an errno's name, `TLS` or `DISCONNECTED`."""
    return Unavailable(f"{origin}: {what}", reason="EGRESS_CONNECTION_FAILED", origin=origin, cause=cause)


def _no_connection(error: aiohttp.ClientConnectorError, origin: str) -> AppError:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "it cannot be verified")
        return connection_failed(origin, f"its certificate is not valid: {why}", "TLS")
    cause = error.os_error
    if isinstance(cause, AddressRefused):
        return refused(origin)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unavailable(f"{origin}: the name does not resolve", reason="EGRESS_NAME_UNRESOLVED", origin=origin)
    if isinstance(cause, ssl.SSLError):
        return connection_failed(origin, "the TLS handshake failed", "TLS")
    name = errno.errorcode.get(cause.errno or 0, "DISCONNECTED")
    return connection_failed(origin, f"no connection could be made ({name})", name)


def _timeout(error: TimeoutError, origin: str, phase: Phase) -> Unavailable:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        limit, what = "connect", "no connection was made in time"
    elif not isinstance(error, aiohttp.ServerTimeoutError):
        limit, what = "total", "the answer was not complete in time"
    elif phase is Phase.FIRST_BYTE:
        limit, what = phase.value, "no answer began in time"
    else:
        limit, what = phase.value, "the answer stalled"
    return Unavailable(f"{origin}: {what}", reason="EGRESS_TIMEOUT", origin=origin, phase=limit)
