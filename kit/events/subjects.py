"""Subjects: derived from an event's type and its tenant, never typed, so that permissions on them isolate tenants."""

from __future__ import annotations

from functools import lru_cache

from google.protobuf.message import Message


def subject_of(message_type: type[Message] | str, tenant_slug: str) -> str:
    """Where events of this type and tenant go, such as `turnout.events.v1.RequestServed.shop`.

    :param message_type: the message's class, or its full name
    """
    name = message_type if isinstance(message_type, str) else message_type.DESCRIPTOR.full_name
    return f"{name}.{tenant_slug}"


def subject_of_all_tenants(message_type: type[Message] | str) -> str:
    """The filter that matches events of this type, whosever they are."""
    return subject_of(message_type, "*")


# As many as types of event times projects.
@lru_cache(maxsize=1024)
def type_of(subject: str) -> str:
    """The full name of the message type whose events go to `subject`."""
    return subject.rpartition(".")[0]
