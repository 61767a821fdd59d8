from __future__ import annotations

from typing import Any

import pytest

from kit.calls import Call, Method
from kit.errors import Unauthenticated
from kit.telemetry import TraceContext
from services.registry import module
from services.registry.authenticator import FOLLOWER_SCOPE
from turnout.registry.v1 import api_key_service_pb2 as pb


def call(scope: str) -> Call:
    return Call(Method("/s/M", scope), {}, "test", 0.0, TraceContext("a" * 32, "b" * 16, False))


async def test_a_key_is_the_same_to_the_database_and_to_the_view(registry: Any) -> None:
    """What a key may do, and how often, does not depend on what it asks for."""
    request = pb.CreateApiKeyRequest(parent="projects/-")
    request.api_key.display_name, request.api_key.requests_per_minute = "follower", 7
    request.api_key.scopes.append(FOLLOWER_SCOPE)
    request.api_key.expire_time.seconds = 4_000_000_000
    made = await registry.platform.call("CreateApiKey", request)
    await registry.catalog.reach(registry.platform.sequence)
    authenticator = await registry.runtime.shared(module.authenticator)

    stored = await authenticator.authenticate(made.key, call(FOLLOWER_SCOPE))
    seen = await authenticator.authenticate(made.key, call("registry:read"))

    assert stored == seen
    assert stored.requests_per_minute == 7


async def test_a_follower_is_refused_once_its_key_is_revoked(registry: Any) -> None:
    request = pb.CreateApiKeyRequest(parent="projects/-")
    request.api_key.display_name = "follower"
    request.api_key.scopes.append(FOLLOWER_SCOPE)
    made = await registry.platform.call("CreateApiKey", request)
    authenticator = await registry.runtime.shared(module.authenticator)
    await registry.platform.call("RevokeApiKey", pb.RevokeApiKeyRequest(name=made.name))

    with pytest.raises(Unauthenticated) as failure:
        await authenticator.authenticate(made.key, call(FOLLOWER_SCOPE))
    assert failure.value.reason == "KEY_UNKNOWN"
