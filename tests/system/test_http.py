"""The same deployments over HTTP, by the official OpenAI SDK, as gRPC clients call them."""

from __future__ import annotations

import openai
import pytest
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from stack.llm import MODEL, Llm
from stack.services import Installation
from tests.system.clients import Clients, eventually
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2

PROMPT = "You are an expert on {{ country }}. Answer in {{ language }}, in one sentence."
INPUT = {"input": {"country": "France", "language": "English"}}


def sdk(installation: Installation, clients: Clients) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"http://{installation.http_address}/v1", api_key=clients.key, max_retries=0)


async def test_the_openai_sdk_gets_what_a_generated_client_gets(
    installation: Installation, shop: Clients, llm: Llm
) -> None:
    await shop.create_provider("local", llm.base_url)
    await shop.create_deployment("travel-assistant", "local", MODEL, prompts=[PROMPT, f"{PROMPT} Be warm."])
    # The gateway has no way to wait for a write: gRPC's reads have.
    await eventually(lambda: shop.run("travel-assistant", variables_json='{"country": "a", "language": "b"}'))
    direct = await shop.run("travel-assistant", variables_json='{"country": "a", "language": "b"}', user="ada")

    async with sdk(installation, shop) as client:
        models = [model.id async for model in client.models.list()]
        whole = await client.chat.completions.create(
            model="turnout/deployment/travel-assistant",
            messages=[{"role": "user", "content": "Any customs at the dinner table?"}],
            user="ada",
            metadata={"team": "growth"},
            extra_body=INPUT,
        )
        stream = await client.chat.completions.create(
            model="turnout/deployment/travel-assistant:live",
            messages=[{"role": "user", "content": "Any customs at the dinner table?"}],
            stream=True,
            stream_options={"include_usage": True},
            user="ada",
            extra_body=INPUT,
        )
        chunks = [chunk async for chunk in stream]

    assert models == ["turnout/deployment/travel-assistant"]
    assert whole.choices[0].message.content
    assert whole.usage is not None
    assert whole.usage.prompt_tokens > 20
    assert whole.model_extra is not None
    assert whole.model_extra["turnout"]["variant_uid"] == direct.decision.variant
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0

    async def logged() -> None:
        logs = {log.request.request_id: log.request for log in await shop.all_logs()}
        assert {whole.id, chunks[0].id} <= set(logs)
        assert logs[whole.id].source == execution_pb2.SOURCE_SDK
        assert logs[whole.id].metadata_json == '{"team":"growth"}'
        assert (logs[whole.id].streamed, logs[chunks[0].id].streamed) == (False, True)
        assert 0 < logs[chunks[0].id].time_to_first_token_us <= logs[chunks[0].id].latency_us
        assert {log.status for log in logs.values()} == {request_pb2.REQUEST_STATUS_OK}
        assert {log.decision.variant for log in logs.values() if log.user} == {direct.decision.variant}

    await eventually(logged)


async def test_refusals_are_those_that_the_sdk_knows(
    installation: Installation, shop: Clients, instant_llm: str
) -> None:
    await shop.create_provider("instant", instant_llm)
    await shop.create_deployment("agent", "instant")
    await eventually(lambda: shop.run("agent"))
    async with sdk(installation, shop) as client:
        ask = client.chat.completions.create
        with pytest.raises(openai.NotFoundError):
            await ask(model="turnout/deployment/nobody", messages=[{"role": "user", "content": "hi"}])
        with pytest.raises(openai.BadRequestError) as failure:
            await ask(model="turnout/deployment/agent", messages=[{"role": "user", "content": "hi"}], n=2)
        assert failure.value.param == "n"
        with pytest.raises(openai.AuthenticationError):
            await client.with_options(api_key="tk_wrong").chat.completions.create(
                model="turnout/deployment/agent", messages=[{"role": "user", "content": "hi"}]
            )


async def test_a_model_is_called_without_a_deployment_and_a_repeat_is_not(
    installation: Installation, shop: Clients, instant_llm: str
) -> None:
    await shop.create_provider("instant", instant_llm)
    await shop.create_deployment("ready", "instant")
    # Written last: whoever sees it sees the provider.
    await eventually(lambda: shop.run("ready"))
    async with sdk(installation, shop) as client:

        async def ask(temperature: float) -> tuple[ChatCompletion, bool]:
            raw = await client.chat.completions.with_raw_response.create(
                model="instant/small",
                messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}],
                temperature=temperature,
                extra_headers={"Idempotency-Key": "order-7"},
            )
            return raw.parse(), raw.headers.get("idempotency-replayed") == "true"

        (first, first_is_old), (second, second_is_old) = await ask(0.5), await ask(0.5)
        assert (first_is_old, second_is_old) == (False, True)
        assert second == first
        with pytest.raises(openai.BadRequestError) as failure:
            await ask(0.75)
        assert failure.value.code == "idempotency_key_reused"

    async def logged() -> None:
        logs = [log.request for log in await shop.all_logs() if log.request.request_id == first.id]
        assert [(log.provider, log.model, log.status) for log in logs] == [
            ("instant", "small", request_pb2.REQUEST_STATUS_OK)
        ]
        assert logs[0].version.startswith("ver_")

    await eventually(logged)
