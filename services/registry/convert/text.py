"""How writes are repeated, and times: what all resources have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from services.registry.domain import violated
from services.registry.ports import Write

_NOT_THE_REQUEST = ("request_id", "validate_only")


def write_from_proto(request: Message, *, secret: tuple[str, str] | None = None) -> Write:
    """How a create wants to be done.

    :param secret: the field of a field that must not go into the fingerprint, such as `("provider", "credential")`
    """
    rest = type(request)()
    rest.CopyFrom(request)
    for name in _NOT_THE_REQUEST:
        rest.ClearField(name)
    if secret is not None:
        getattr(rest, secret[0]).ClearField(secret[1])
    fingerprint = blake2b(rest.SerializeToString(deterministic=True), digest_size=32).digest()
    return Write(getattr(request, "request_id"), fingerprint, getattr(request, "validate_only"))  # noqa: B009


def time_to_proto(time: datetime | None) -> Timestamp | None:
    """A time; None stays absent."""
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp


def time_from_proto(stamp: Timestamp, *, field: str) -> datetime:
    """A time, cut to microseconds.

    :raises Invalid: `TIME_OUT_OF_RANGE` for what no calendar of years 1 to 9999 holds
    """
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise violated("TIME_OUT_OF_RANGE", field, "must be a time from the year 1 to 9999") from None


def duration(value: timedelta | None) -> Duration | None:
    """A duration; None stays absent."""
    if value is None:
        return None
    proto = Duration()
    proto.FromTimedelta(value)
    return proto
