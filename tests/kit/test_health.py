from __future__ import annotations

import asyncio

import pytest

from kit import health
from kit.interceptors import Chain
from kit.server import Server, ServerOptions
from kit.telemetry import Tracing


async def test_the_check_passes_once_the_process_serves_and_only_then(capsys: pytest.CaptureFixture[str]) -> None:
    tracing = Tracing(sample_ratio=0, resource={}, exporter=None)
    server = Server(Chain(tracing, ()), ServerOptions("127.0.0.1:0", 10, 300, 0, shares_port=False))
    await server.start()
    address = [f"0.0.0.0:{server.port}"]

    assert await asyncio.to_thread(health.main, address) == 1
    assert "NOT_SERVING" in capsys.readouterr().out
    await server.set_healthy(True)
    assert await asyncio.to_thread(health.main, address) == 0
    await server.stop()
    assert await asyncio.to_thread(health.main, address) == 1
    assert "does not answer: UNAVAILABLE" in capsys.readouterr().err
