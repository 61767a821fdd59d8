"""A tenant whose calls make every panel of the dashboard say something."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import Any

import grpc
import orjson
from aiohttp import web

from stack.services import Installation
from tests.system.clients import Clients, tenant
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2
from turnout.registry.v1 import provider_pb2, provider_service_pb2

_USAGE = {"prompt_tokens": 24, "completion_tokens": 8, "total_tokens": 32}


async def _answer(request: web.Request) -> web.StreamResponse:
    body = orjson.loads(await request.read())
    if body["model"] == "broken":
        return web.json_response({"error": {"message": "asked to fail"}}, status=503)
    head = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": body["model"]}
    if not body.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", "content": "Paris."}, "finish_reason": "stop"}
        return web.json_response({**head, "object": "chat.completion", "choices": [choice], "usage": _USAGE})
    stream = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await stream.prepare(request)
    pieces: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Par"}, "finish_reason": None}]},
        {"choices": [{"index": 0, "delta": {"content": "is."}, "finish_reason": "stop"}]},
        {"choices": [], "usage": _USAGE},
    ]
    for piece in pieces:
        await stream.write(b"data: " + orjson.dumps({**head, "object": "chat.completion.chunk", **piece}) + b"\n\n")
    await stream.write(b"data: [DONE]\n\n")
    return stream


@asynccontextmanager
async def _provider() -> Any:
    application = web.Application()
    application.router.add_post("/v1/chat/completions", _answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


class Traffic:
    """Calls in a thread of its own, about ten a second, from :meth:`start` to :meth:`stop`."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._failure: BaseException | None = None
        self.project = ""
        self.ended: Counter[str] = Counter()
        """How many calls ended how."""

    def start(self) -> None:
        """Return once the first round of calls is through."""
        self._thread.start()
        deadline = time.monotonic() + 60
        while not self.ended["streamed"] and time.monotonic() < deadline:
            self.check()
            time.sleep(0.05)
        assert self.ended["streamed"], "no call came through"

    def check(self) -> None:
        """Raise what ended it."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Make no more calls, and wait for the last."""
        self._stop.set()
        self._thread.join(30)

    async def _run(self) -> None:
        try:
            async with _provider() as base_url, tenant(self._installation) as shop:
                self.project = shop.project
                await _prepare(shop, base_url)
                while not self._stop.is_set():
                    await self._round(shop)
                    await asyncio.sleep(0.1)
        except BaseException as error:
            self._failure = error
            raise

    async def _round(self, shop: Clients) -> None:
        for deployment in ("bot", "free"):
            await shop.run(deployment)
            self.ended["ok"] += 1
        try:
            await shop.run("broken")
        except grpc.aio.AioRpcError:
            self.ended["error"] += 1
        request = execution_service_pb2.RunStreamRequest(
            run=execution_service_pb2.RunRequest(
                deployment="bot", messages=[message_pb2.Message(role=message_pb2.ROLE_USER, content="Hello")]
            )
        )
        async for _ in shop.executions.RunStream(request, metadata=shop.metadata(), timeout=20):
            pass
        self.ended["streamed"] += 1


async def _prepare(shop: Clients, base_url: str) -> None:
    """Two variants at a known price, one at an unknown one, and one that fails after a retry."""
    priced = provider_pb2.Provider(
        kind=provider_pb2.PROVIDER_KIND_OPENAI, base_url=base_url, credential="sk-of-the-test"
    )
    await shop.write(
        shop.providers.CreateProvider,
        provider_service_pb2.CreateProviderRequest(parent=shop.parent, provider_id="priced", provider=priced),
    )
    await shop.create_provider("local", base_url)
    await shop.create_deployment("bot", "priced", "gpt-4o-mini", prompts=("Be short.", "Be warm."))
    await shop.create_deployment("free", "local", "some-model")
    await shop.create_deployment("broken", "local", "broken", max_retries=1)
