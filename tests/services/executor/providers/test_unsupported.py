from __future__ import annotations

from typing import Any

import grpc
import pytest

from catalog.view import ProviderKind
from completions.version import Version
from kit.errors import Unimplemented
from kit.status import reason_of
from services.executor.providers.unsupported import Unsupported
from turnout.registry.v1 import provider_pb2


@pytest.mark.parametrize("kind", [provider_pb2.PROVIDER_KIND_ANTHROPIC, provider_pb2.PROVIDER_KIND_OLLAMA])
async def test_a_call_to_a_provider_that_nothing_speaks_to_is_unimplemented_and_recorded(room: Any, kind: Any) -> None:
    await room.put(room.provider_entry(room.upstream.base_url, kind=kind))

    failure = await room.failure()

    assert (failure.code(), reason_of(failure)) == (grpc.StatusCode.UNIMPLEMENTED, "PROVIDER_KIND_UNSUPPORTED")
    assert "openai-compatible" in failure.details()
    assert not room.upstream.received
    assert [served.reason for served in room.served()] == ["PROVIDER_KIND_UNSUPPORTED"]


def test_the_kind_is_named_for_programs() -> None:
    with pytest.raises(Unimplemented) as failure:
        Unsupported().prepare(Version("main", "claude"), ProviderKind.ANTHROPIC)

    assert failure.value.metadata == {"kind": "anthropic"}
