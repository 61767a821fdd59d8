from __future__ import annotations

from typing import Any

import grpc
import pytest

from kit import calls, status
from kit.calls import Principal
from kit.interceptors.auth import allows
from turnout.executor.v1 import execution_service_pb2 as pb


async def _tenant(request: pb.RunRequest, context: Any) -> pb.RunResponse:
    return pb.RunResponse(request_id=calls.principal().tenant)


@pytest.mark.parametrize(
    "header", [("authorization", "Bearer the-key"), ("authorization", "bearer the-key"), ("x-api-key", "the-key")]
)
async def test_a_key_is_accepted_in_either_header(served: Any, header: tuple[str, str]) -> None:
    assert (await served.run(_tenant, metadata=(header,))).request_id == "prj_1"


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [((), "KEY_MISSING"), ((("authorization", "Basic x"),), "KEY_MISSING"), ((("x-api-key", "other"),), "KEY_UNKNOWN")],
)
async def test_without_a_known_key_nobody_is_let_in(served: Any, metadata: Any, reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await served.run(_tenant, metadata=metadata)

    assert failure.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert status.reason_of(failure.value) == reason


async def test_a_key_without_the_scope_is_denied_and_told_which(served: Any) -> None:
    served.keys.scopes = frozenset({"registry:read"})

    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await served.run(_tenant)

    assert failure.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert status.reason_of(failure.value) == "SCOPE_MISSING"
    assert "deployments:run" in (failure.value.details() or "")


def test_the_platforms_admin_may_do_all_but_what_only_services_may() -> None:
    admin = Principal("id", "", frozenset({"platform:admin"}))

    assert allows(admin, "registry:write")
    assert not allows(admin, "catalog:credentials")
