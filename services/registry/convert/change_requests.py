"""Change requests."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from services.registry.convert.resources import difference_to_proto
from services.registry.convert.text import time_to_proto
from services.registry.domain import ChangeRequest, ChangeRequestState, Difference
from turnout.registry.v1 import change_request_pb2

STATES: Final = {
    change_request_pb2.CHANGE_REQUEST_STATE_UNSPECIFIED: None,
    change_request_pb2.CHANGE_REQUEST_STATE_PENDING: ChangeRequestState.PENDING,
    change_request_pb2.CHANGE_REQUEST_STATE_APPROVED: ChangeRequestState.APPROVED,
    change_request_pb2.CHANGE_REQUEST_STATE_REJECTED: ChangeRequestState.REJECTED,
    change_request_pb2.CHANGE_REQUEST_STATE_CANCELLED: ChangeRequestState.CANCELLED,
    change_request_pb2.CHANGE_REQUEST_STATE_EXPIRED: ChangeRequestState.EXPIRED,
}
STATES_TO_PROTO: Final = {state: number for number, state in STATES.items() if state is not None}


def change_request_to_proto(
    request: ChangeRequest, now: datetime, differences: Sequence[Difference] = (), warnings: Sequence[str] = ()
) -> change_request_pb2.ChangeRequest:
    """As callers see it."""
    return change_request_pb2.ChangeRequest(
        name=request.name,
        uid=request.uid,
        state=STATES_TO_PROTO[request.state_at(now)],
        alias=request.alias,
        base=request.base_number,
        revision=request.revision_number,
        retain_contract=request.retains_contract,
        differences=map(difference_to_proto, differences),
        warnings=warnings,
        description=request.description,
        author=request.author,
        create_time=time_to_proto(request.created_at),
        expire_time=time_to_proto(request.expires_at),
        decider=request.decider,
        decide_time=time_to_proto(request.decided_at),
        decision_note=request.decision_note,
    )
