"""API keys, as the contract has them."""

from __future__ import annotations

from collections.abc import Sequence

from services.registry.convert.changes import paths_named
from services.registry.convert.text import time_from_proto, time_to_proto
from services.registry.domain import ApiKey, ApiKeyChange, ApiKeyDraft
from turnout.registry.v1 import api_key_pb2


def api_key_draft(key: api_key_pb2.ApiKey) -> ApiKeyDraft:
    """What CreateApiKey is given.

    :raises Invalid: `TIME_OUT_OF_RANGE`
    """
    return ApiKeyDraft(
        display_name=key.display_name,
        scopes=tuple(key.scopes),
        expires_at=time_from_proto(key.expire_time, field="api_key.expire_time")
        if key.HasField("expire_time")
        else None,
        requests_per_minute=key.requests_per_minute,
    )


def api_key_change(key: api_key_pb2.ApiKey, paths: Sequence[str]) -> ApiKeyChange:
    """What UpdateApiKey is to change.

    :param paths: as :func:`variant_change`
    :raises Invalid: `UPDATE_MASK_INVALID`, `TIME_OUT_OF_RANGE`
    """
    changeable = ("display_name", "scopes", "expire_time", "requests_per_minute")
    named, draft = paths_named(key, paths, changeable), api_key_draft(key)
    return ApiKeyChange(
        display_name=draft.display_name if "display_name" in named else None,
        scopes=draft.scopes if "scopes" in named else None,
        changes_expiry="expire_time" in named,
        expires_at=draft.expires_at if "expire_time" in named else None,
        requests_per_minute=draft.requests_per_minute if "requests_per_minute" in named else None,
    )


def api_key_to_proto(key: ApiKey, *, text: str = "") -> api_key_pb2.ApiKey:
    """As callers see it.

    :param text: the whole key, at its making only
    """
    return api_key_pb2.ApiKey(
        name=key.name,
        uid=key.uid,
        display_name=key.display_name,
        scopes=key.scopes,
        key=text,
        expire_time=time_to_proto(key.expires_at),
        revoke_time=time_to_proto(key.revoked_at),
        create_time=time_to_proto(key.record.created_at),
        last_use_time=time_to_proto(key.used_at),
        creator=key.creator,
        etag=key.record.etag(key.uid),
        requests_per_minute=key.requests_per_minute,
    )
