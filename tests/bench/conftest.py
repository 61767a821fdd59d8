"""The upstream, served by the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from bench.upstream import Behaviour, Stats, Upstream

Served = Callable[[Behaviour], Awaitable[tuple[str, Stats]]]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    """Serves an upstream that behaves so; its `host:port`, and what it has answered."""
    servers: list[asyncio.Server] = []

    async def serve(behaviour: Behaviour) -> tuple[str, Stats]:
        stats = Stats()
        server = await asyncio.get_running_loop().create_server(lambda: Upstream(behaviour, stats), "127.0.0.1", 0)
        servers.append(server)
        return f"127.0.0.1:{server.sockets[0].getsockname()[1]}", stats

    yield serve
    for server in servers:
        server.close()
