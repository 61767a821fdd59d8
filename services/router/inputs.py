"""What a call may bring. Pure.

The same is refused as by `Run` and `Recommend`: there must be no decision for a call that would not be served.
"""

from __future__ import annotations

from kit import ids, storable
from kit.errors import Invalid, Violation
from services.router.domain import Unit


def check_texts(unit: Unit, path: str = "") -> None:
    """The other texts of a call.

    :param path: of the call in the request, with its full stop
    :raises Invalid: `TEXT_NOT_STORABLE`, `REQUEST_MALFORMED`
    """
    if "\0" in f"{unit.routing_key}{unit.identity}{unit.thread}{unit.user}":
        names = ("routing_key", "identity", "thread", "user")
        storable.check_texts((f"{path}{name}", getattr(unit, name)) for name in names)
    if unit.request_id and not (unit.request_id.startswith("req_") and ids.is_uid(unit.request_id)):
        problem = Violation(f"{path}request_id", "must be the id of a request, as req_… with 26 characters")
        raise Invalid(f"{problem.field} {problem.message}", reason="REQUEST_MALFORMED", violations=(problem,))
