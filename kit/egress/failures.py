"""What went wrong outside, in the words of `kit.errors`.

Messages and metadata hold scheme, host and port only: a URL's query may hold what nobody should read.
"""

from __future__ import annotations

import errno
import ssl
from enum import Enum

from kit.egress.resolver import AddressRefused, Unresolved
from kit.errors import AppError, Denied, Invalid, Unavailable, Violation


class Trouble(Enum):
    """Why an answer is not whole."""

    DISCONNECTED = "disconnected"
    MALFORMED = "malformed"
    CONNECT = "connect"
    """There was no connection in time."""
    FIRST_BYTE = "first_byte"
    """Its head did not begin in time, or stalled."""
    READ = "read"
    """Its body stalled."""
    TOTAL = "total"
    """It was not whole in time."""


_LATE = {
    Trouble.CONNECT: "no connection was made in time",
    Trouble.FIRST_BYTE: "no answer began in time",
    Trouble.READ: "the answer stalled",
    Trouble.TOTAL: "the answer was not complete in time",
}


def failure_of(trouble: Trouble, origin: str) -> Unavailable:
    """The failure that it means.

    :param origin: scheme, host and port
    """
    if trouble is Trouble.MALFORMED:
        return malformed(origin)
    if trouble is Trouble.DISCONNECTED:
        return connection_failed(origin, "the connection broke before the answer was complete", "DISCONNECTED")
    return Unavailable(f"{origin}: {_LATE[trouble]}", reason="EGRESS_TIMEOUT", origin=origin, phase=trouble.value)


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


def no_connection(error: OSError, origin: str) -> AppError:
    """The failure that an error means with which a connection was not made."""
    if isinstance(error, AddressRefused):
        return refused(origin)
    if isinstance(error, Unresolved):
        return Unavailable(f"{origin}: the name does not resolve", reason="EGRESS_NAME_UNRESOLVED", origin=origin)
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message or "it cannot be verified"
        return connection_failed(origin, f"its certificate is not valid: {why}", "TLS")
    if isinstance(error, ssl.SSLError):
        return connection_failed(origin, "the TLS handshake failed", "TLS")
    name = errno.errorcode.get(error.errno or 0, "DISCONNECTED")
    return connection_failed(origin, f"no connection could be made ({name})", name)
