"""Changes that wait for approval: RPC in, use case, RPC out."""

from __future__ import annotations

from typing import Final

from kit.resource_names import parse
from kit.storable import check_message
from services.registry.application.access import ListRequest, Written
from services.registry.application.change_requests import ChangeRequests, Told
from services.registry.convert.change_requests import STATES, change_request_to_proto
from services.registry.domain import ChangeRequestState
from services.registry.ports import Clock
from services.registry.servicer.calling import Context, announced, caller
from turnout.registry.v1 import change_request_pb2, change_request_service_pb2_grpc
from turnout.registry.v1 import change_request_service_pb2 as pb

_NAME: Final = "projects/*/deployments/*/changeRequests/*"


class ChangeRequestServicer(change_request_service_pb2_grpc.ChangeRequestServiceServicer):
    """The changes of protected deployments."""

    def __init__(self, change_requests: ChangeRequests, now: Clock) -> None:
        self._change_requests = change_requests
        self._now = now

    async def GetChangeRequest(
        self, request: pb.GetChangeRequestRequest, context: Context
    ) -> change_request_pb2.ChangeRequest:
        found, differences, warnings = await self._change_requests.get_change_request(caller(), _name(request.name))
        return change_request_to_proto(found, self._now(), differences, warnings)

    async def ListChangeRequests(
        self, request: pb.ListChangeRequestsRequest, context: Context
    ) -> pb.ListChangeRequestsResponse:
        project, deployment = parse(request.parent, "projects/*/deployments/*", field="parent")
        asked = ListRequest(request.page_size, request.page_token)
        page = await self._change_requests.list_change_requests(
            caller(), project, deployment, STATES[request.state], asked
        )
        now = self._now()
        return pb.ListChangeRequestsResponse(
            change_requests=[change_request_to_proto(each, now) for each in page.items],
            next_page_token=page.next_token,
        )

    async def ApproveChangeRequest(
        self, request: pb.ApproveChangeRequestRequest, context: Context
    ) -> change_request_pb2.ChangeRequest:
        check_message(request)
        name = _name(request.name)
        return self._decided(await self._change_requests.approve_change_request(caller(), name, request.note))

    async def RejectChangeRequest(
        self, request: pb.RejectChangeRequestRequest, context: Context
    ) -> change_request_pb2.ChangeRequest:
        return await self._declined(request, ChangeRequestState.REJECTED)

    async def CancelChangeRequest(
        self, request: pb.CancelChangeRequestRequest, context: Context
    ) -> change_request_pb2.ChangeRequest:
        return await self._declined(request, ChangeRequestState.CANCELLED)

    async def _declined(
        self, request: pb.RejectChangeRequestRequest | pb.CancelChangeRequestRequest, state: ChangeRequestState
    ) -> change_request_pb2.ChangeRequest:
        check_message(request)
        written = await self._change_requests.decline_change_request(caller(), _name(request.name), state, request.note)
        return self._decided(written)

    def _decided(self, written: Written[Told]) -> change_request_pb2.ChangeRequest:
        decided, differences, warnings = announced(written)
        return change_request_to_proto(decided, self._now(), differences, warnings)


def _name(name: str) -> tuple[str, str, str]:
    project, deployment, uid = parse(name, _NAME, field="name")
    return project, deployment, uid
