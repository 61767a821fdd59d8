"""Events about versions to what the registry knows."""

from __future__ import annotations

from datetime import UTC
from typing import Final

from google.protobuf.message import DecodeError

from catalog.configurations import version_from_proto
from kit.errors import Invalid
from kit.ids import is_uid
from kit.storable import check_message
from services.registry.domain import Sighting
from turnout.events.v1 import version_pb2 as pb

_MIN_SECONDS: Final = -62_135_596_800
_MAX_SECONDS: Final = 253_402_300_799
"""0001-01-01 and 9999-12-31: what a timestamp may hold."""


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
    if not event.HasField("seen_time") or not _MIN_SECONDS <= event.seen_time.seconds <= _MAX_SECONDS:
        raise Malformed("TIME_MALFORMED")
    try:
        check_message(event)
        content = version_from_proto(event.version, field="version")
        seen_at = event.seen_time.ToDatetime(UTC)
    except Invalid as error:
        raise Malformed(error.reason) from None
    except KeyError:
        # A role that this code does not know.
        raise Malformed("ROLE_UNKNOWN") from None
    except ValueError:
        raise Malformed("TIME_MALFORMED") from None
    return Sighting(event.project, event.version.uid, content, seen_at)
