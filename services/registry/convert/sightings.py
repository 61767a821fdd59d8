"""Events about versions to what the registry knows."""

from __future__ import annotations

from typing import Final

from google.protobuf.message import DecodeError

from catalog.configurations import version_from_proto
from kit.errors import Invalid
from kit.ids import is_uid
from kit.storable import check_message
from services.registry.convert.text import time_from_proto
from services.registry.domain import Sighting
from turnout.chat.v1.message_pb2 import ROLE_UNSPECIFIED, Role
from turnout.events.v1 import version_pb2 as pb

_ROLES: Final = frozenset(Role.values()) - {ROLE_UNSPECIFIED}


class Malformed(ValueError):
    """An event that cannot be taken. The text is an UPPER_SNAKE reason."""


def sighting_of(packed: bytes) -> Sighting:
    """The sighting that an event tells of.

    :raises Malformed: if it tells of none
    """
    event = pb.VersionSeen()
    try:
        event.MergeFromString(packed)
    except DecodeError:
        raise Malformed("EVENT_UNREADABLE") from None
    if not is_uid(event.project) or not is_uid(event.version.provider):
        raise Malformed("NAME_MALFORMED")
    if not event.HasField("seen_time"):
        raise Malformed("TIME_MALFORMED")
    try:
        seen_at = time_from_proto(event.seen_time, field="seen_time")
    except Invalid:
        raise Malformed("TIME_MALFORMED") from None
    if any(message.role not in _ROLES for message in event.version.messages):
        # One of a newer Turnout.
        raise Malformed("ROLE_UNKNOWN")
    try:
        check_message(event)
        content = version_from_proto(event.version, field="version")
    except Invalid as error:
        raise Malformed(error.reason) from None
    return Sighting(event.project, event.version.uid, content, seen_at)
