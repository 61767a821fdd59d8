"""The registry, as inference uses it."""

from __future__ import annotations

import grpc

from catalog.keys import SEQUENCE_HEADER
from kit import calls, status
from kit.errors import Denied, Unauthenticated, Unavailable
from services.inference import convert
from services.inference.domain import NewModel
from turnout.registry.v1 import model_pb2, model_service_pb2_grpc


class RegistryClient:
    """The Registry port on the registry's ModelService.

    :param service_key: holds `models:register`
    """

    def __init__(self, channel: grpc.aio.Channel, service_key: str) -> None:
        self._stub: model_service_pb2_grpc.ModelServiceAsyncStub = model_service_pb2_grpc.ModelServiceStub(channel)
        self._service_key = service_key

    async def register_model(self, model: NewModel, timeout_seconds: float) -> model_pb2.Model:
        """As the port says. What the registry answers as the place of its change is answered to our caller too."""
        request = convert.register_request(model)
        metadata = [("authorization", f"Bearer {self._service_key}")]
        if (served := calls.current_or_none()) is not None:
            metadata.append(("traceparent", served.trace.traceparent()))
        call = self._stub.RegisterModel(request, metadata=metadata, timeout=timeout_seconds)
        try:
            registered = await call
        except grpc.aio.AioRpcError as failure:
            error = status.from_rpc_error(failure, peer="registry")
            if isinstance(error, (Denied, Unauthenticated)):
                # About our key, not about the caller's.
                raise Unavailable(
                    f"the registry refuses this service's key ({error.reason}): TURNOUT_SERVICE_KEY must hold "
                    "models:register; the artifact is kept, upload it again then",
                    reason="SERVICE_KEY_REFUSED",
                ) from None
            raise error from None
        if served is not None:
            for key, value in await call.trailing_metadata() or ():
                if key == SEQUENCE_HEADER:
                    served.trailing_metadata.append((key, value))
        return registered
