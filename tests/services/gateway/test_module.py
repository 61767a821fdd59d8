from __future__ import annotations

import asyncio
from typing import Any

from tests.kit.http_server.serving import until
from tests.services import scripted_registry


async def test_a_process_that_stops_answers_what_it_has_taken(start_room: Any) -> None:
    async with start_room(serves=False) as room:
        room.executor.answer = gate = asyncio.Event()
        serving = asyncio.create_task(room.process.runtime.serve())
        await room.process.catalog.reach(1)
        running = asyncio.create_task(room.post())
        await until(lambda: room.executor.requests)

        room.process.runtime.stop()
        await until(lambda: room.listener.is_stopping)
        gate.set()

        status, headers, _ = await running
        assert (status, headers["connection"]) == (200, "close")
        assert room.process.runtime.ports == {"http": room.listener.port}
        assert await asyncio.wait_for(serving, 10) == 0


async def test_a_gateway_is_not_ready_before_it_has_a_catalog(start_room: Any) -> None:
    async with start_room(serves=False) as room:
        async with room.http.get(f"{room.url}/readyz") as answer:
            assert (answer.status, (await answer.json())["error"]["reason"]) == (503, "CATALOG_NOT_READY")
        async with room.http.get(f"{room.url}/healthz") as answer:
            assert answer.status == 200
        await scripted_registry.serve(room.process)
        async with room.http.get(f"{room.url}/readyz") as answer:
            assert answer.status == 200
        await room.process.server.stop()
