"""Adapters take their steps of whole answers with the other calls of the moment."""

from __future__ import annotations

import asyncio
import json

from multidict import CIMultiDict, CIMultiDictProxy

from catalog.view import ProviderKind
from kit.abreast import Abreast
from kit.egress import EgressResponse
from services.executor.domain import ProviderAnswer, ProviderRequest
from services.executor.providers.openai import OpenAi
from tests.services.executor.providers.wires import RETRY_STATUSES, TRACING, asked, version


async def test_calls_at_the_same_time_ask_together_and_read_their_answers_together() -> None:
    steps = list[str]()

    class Network:
        """Egress to a provider that answers at once."""

        async def request(self, *_: object, **__: object) -> EgressResponse:
            steps.append("asks")
            answer = {"choices": [{"message": {"content": "Paris."}, "finish_reason": "stop"}]}
            return EgressResponse(200, CIMultiDictProxy(CIMultiDict()), json.dumps(answer).encode())

    class Noting(OpenAi):
        def headers(self, request: ProviderRequest, accept: str) -> dict[str, str]:
            steps.append("is ready")
            return OpenAi.headers(self, request, accept)

        def read(self, response: EgressResponse, request: ProviderRequest) -> ProviderAnswer:
            steps.append("reads")
            return OpenAi.read(self, response, request)

    abreast = Abreast()
    adapter = Noting(Network(), TRACING, RETRY_STATUSES, 10_000, 10_000, abreast)  # type: ignore[arg-type]

    async def call() -> None:
        with abreast:
            # So that all are under way.
            await asyncio.sleep(0)
            await abreast.line_up()
            request = asked(adapter, ProviderKind.OPENAI, "https://api.test/v1", version())
            assert isinstance(await adapter.complete(request, 5), ProviderAnswer)

    await asyncio.gather(call(), call(), call())
    assert steps == ["is ready"] * 3 + ["asks"] * 3 + ["reads"] * 3
