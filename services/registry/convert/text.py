"""What every request is checked for, whatever it says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import blake2b

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from kit.errors import Invalid, Violation
from services.registry.domain import violated
from services.registry.ports import Write

_NOT_THE_REQUEST = ("request_id", "validate_only")


def refuse_nul(request: Message) -> None:
    """Refuse text that no store could hold, wherever in the message it is.

    :raises Invalid: `TEXT_HAS_NUL`, with every such field
    """
    wrong = [Violation(path, "must not contain the NUL character") for path in _fields_with_nul(request, "")]
    if wrong:
        raise Invalid(f"{wrong[0].field} {wrong[0].message}", reason="TEXT_HAS_NUL", violations=wrong)


def _fields_with_nul(message: Message, prefix: str) -> Iterator[str]:
    for descriptor, value in message.ListFields():
        path = f"{prefix}{descriptor.name}"
        values = [(path, value)]
        if descriptor.is_repeated:
            values = [(f"{path}[{index}]", each) for index, each in enumerate(value)]
        for where, each in values:
            if descriptor.type == FieldDescriptor.TYPE_MESSAGE:
                yield from _fields_with_nul(each, f"{where}.")
            elif descriptor.type == FieldDescriptor.TYPE_STRING and "\0" in each:
                yield where


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
