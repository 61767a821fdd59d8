"""A revoked key is refused everywhere within a second, and for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import grpc
import pytest

from kit import status
from tests.system.clients import Clients, eventually
from turnout.registry.v1 import api_key_service_pb2

pytestmark = pytest.mark.slow

_WITHIN_SECONDS = 1.0
_ROUNDS = 3


@dataclass
class Probe:
    """Calls one service with one key again and again, and keeps when each call began and ended, and how."""

    call: Callable[[], Awaitable[object]]
    answers: list[tuple[float, float, str]] = field(default_factory=list)
    is_over: bool = False

    def ended(self, reason: str) -> list[tuple[float, float, str]]:
        """Those that ended with `reason`; empty for success."""
        return [answer for answer in self.answers if answer[2] == reason]

    async def run(self) -> None:
        """Call until told that it is over."""
        while not self.is_over:
            begun, reason = time.monotonic(), ""
            try:
                await self.call()
            except grpc.aio.AioRpcError as failure:
                reason = status.reason_of(failure) or failure.code().name
            self.answers.append((begun, time.monotonic(), reason))


async def test_a_revoked_key_is_refused_by_every_service_within_a_second(shop: Clients, instant_llm: str) -> None:
    await shop.create_provider("instant", instant_llm)
    await shop.create_deployment("agent", "instant")

    slowest = 0.0
    for _ in range(_ROUNDS):
        key = await shop.create_key(["deployments:run", "analytics:read", "keys:admin"])
        # Its own clients, so that no call of it carries the sequence of the revocation and waits for it.
        holder = shop.with_key(key.key)
        listing = api_key_service_pb2.ListApiKeysRequest(parent=holder.parent)
        probes = [
            Probe(lambda holder=holder: holder.run("agent")),  # type: ignore[misc]  # bound by its default
            Probe(lambda holder=holder: holder.totals()),  # type: ignore[misc]
            Probe(lambda holder=holder, listing=listing: holder.read(holder.keys.ListApiKeys, listing)),  # type: ignore[misc]
        ]
        tasks = [asyncio.create_task(probe.run()) for probe in probes for _ in range(2)]
        try:
            await _each(probes, "", 20)
            name = f"{shop.parent}/apiKeys/{key.key.split('_')[1]}"
            await shop.write(shop.keys.RevokeApiKey, api_key_service_pb2.RevokeApiKeyRequest(name=name))
            revoked = time.monotonic()
            await _each(probes, "KEY_UNKNOWN", 50)
        finally:
            for probe in probes:
                probe.is_over = True
            await asyncio.gather(*tasks)
            await holder.close()

        for probe in probes:
            assert {reason for _, _, reason in probe.answers} == {"", "KEY_UNKNOWN"}
            refused = min(end for _, end, _ in probe.ended("KEY_UNKNOWN"))
            assert all(begin < refused for begin, _, _ in probe.ended("")), "a refused key works again"
            slowest = max(slowest, refused - revoked)
    assert slowest < _WITHIN_SECONDS


async def _each(probes: list[Probe], reason: str, times: int) -> None:
    async def ended() -> None:
        assert all(len(probe.ended(reason)) >= times for probe in probes)

    await eventually(ended)
