"""What callers want changed, and how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import Message

from services.registry.domain import LIVE, Bump, Change, violated
from turnout.registry.v1 import deployment_service_pb2 as pb
from turnout.registry.v1 import revision_pb2

_BUMPS: Final = {
    revision_pb2.BUMP_UNSPECIFIED: None,
    revision_pb2.BUMP_MINOR: Bump.MINOR,
    revision_pb2.BUMP_MAJOR: Bump.MAJOR,
}


def change_from_proto(
    request: pb.CreateVariantRequest
    | pb.UpdateVariantRequest
    | pb.DeleteVariantRequest
    | pb.UpdateDeploymentRequest
    | pb.RollbackDeploymentRequest,
    *,
    etag: str = "",
) -> Change:
    """How a caller wants a change done.

    :param etag: of requests that carry it in what they change
    """
    return Change(
        alias=request.alias or LIVE,
        etag=etag or getattr(request, "etag", ""),
        is_draft=request.draft,
        bump=_BUMPS[request.bump],
        description=request.description,
        is_dry=request.validate_only,
        # Salt and routing are in no contract.
        retains_contract=getattr(request, "retain_contract", False),
    )


def paths_named(message: Message, paths: Sequence[str], changeable: Sequence[str]) -> list[str]:
    """What an update is to change: what its mask names, else what has a value.

    :raises Invalid: `UPDATE_MASK_INVALID`
    """
    if unknown := [path for path in paths if path not in changeable]:
        raise violated("UPDATE_MASK_INVALID", "update_mask", f"has {unknown[0]!r}; there are {', '.join(changeable)}")
    given = {descriptor.name for descriptor, _ in message.ListFields()}
    return [path for path in changeable if (path in paths if paths else path in given)]
