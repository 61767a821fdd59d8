from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from stack.llm import MODEL, Llm


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llm]:
    with Llm(tmp_path_factory.mktemp("llm")) as llm:
        yield llm


async def _complete(llm: Llm) -> dict[str, Any]:
    request = {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": "Say hello."}]}
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        async with session.post(f"{llm.base_url}/chat/completions", json=request) as response:
            answer: dict[str, Any] = await response.json()
            return answer


async def test_it_completes_a_chat(llm: Llm) -> None:
    answer = await _complete(llm)

    assert llm.base_url.endswith("/v1")
    assert answer["model"] == MODEL
    assert answer["choices"][0]["message"]["content"]
    assert 1 <= answer["usage"]["completion_tokens"] <= 8


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_it_comes_back_on_its_port(llm: Llm, end: str) -> None:
    url = llm.base_url

    getattr(llm, end)()
    assert not llm.alive()
    llm.start()

    assert llm.base_url == url
    assert (await _complete(llm))["choices"]
