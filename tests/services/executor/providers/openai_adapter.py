"""OpenAI's adapter in front of a scripted upstream, and what it is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from catalog.view import Provider, ProviderKind
from completions.chat import Message, Role
from completions.version import Version
from kit.egress import Egress, EgressPolicy
from kit.secrets import Secret
from kit.telemetry import Tracing
from services.executor.domain import ProviderFailure, ProviderRequest
from services.executor.providers.openai import OpenAi

CREDENTIAL = "sk-planted-credential-0123456789"
RETRY_STATUSES = frozenset({408, 409, 429, 500, 501, 502, 503, 504})
VERSION = Version(provider="prv_main", model="test-model")
QUESTION = (Message(Role.USER, "What is the capital of France?"),)
TRACING = Tracing(sample_ratio=0, resource={}, exporter=None)
OFFLINE = OpenAi(None, TRACING, RETRY_STATUSES, 1000, 1000)  # type: ignore[arg-type]  # sends nothing


@pytest.fixture
async def adapter() -> AsyncIterator[OpenAi]:
    async with Egress(EgressPolicy(allow_private=True)) as egress:
        yield OpenAi(egress, TRACING, RETRY_STATUSES, max_response_bytes=100_000, max_stream_bytes=100_000)


def asked(upstream: Any, version: Version = VERSION, **fields: Any) -> ProviderRequest:
    kind = fields.pop("kind", ProviderKind.OPENAI_COMPATIBLE)
    given: dict[str, Any] = {
        "provider": Provider("prv_main", "prj_shop", "main", kind, getattr(upstream, "base_url", upstream)),
        "credential": Secret(CREDENTIAL),
        "model": version.model,
        "prepared_body": OpenAi(None, TRACING, RETRY_STATUSES, 1, 1).prepare(version, kind),  # type: ignore[arg-type]
        "messages": QUESTION,
    }
    return ProviderRequest(**(given | fields))


async def failed(adapter: OpenAi, upstream: Any, *steps: Any, timeout: float = 5, **fields: Any) -> ProviderFailure:
    upstream.then(*steps)
    outcome = await adapter.complete(asked(upstream, **fields), timeout)
    assert isinstance(outcome, ProviderFailure)
    return outcome
