"""What a call may bring. Pure.

The same is refused as by `Run` and `Recommend`: there must be no decision for a call that would not be served.
"""

from __future__ import annotations

from kit import storable
from services.router.domain import Unit


def check_texts(unit: Unit, path: str = "") -> None:
    """The other texts of a call.

    :param path: of the call in the request, with its full stop
    :raises Invalid: `TEXT_NOT_STORABLE`
    """
    if "\0" in f"{unit.routing_key}{unit.identity}{unit.thread}{unit.user}{unit.request_id}":
        names = ("routing_key", "identity", "thread", "user", "request_id")
        storable.check_texts((f"{path}{name}", getattr(unit, name)) for name in names)
