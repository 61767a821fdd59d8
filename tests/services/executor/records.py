"""Calls under idempotency keys, and records of them in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from kit.clock import SystemClock
from kit.errors import AppError
from services.executor.idempotency import Claim, Found, Fresh, Idempotency, claim

NOW = 100.0


class Clock:
    """Stands still at `NOW`, but lets others run."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> float:
        return self.time

    def unix_ns(self) -> int:
        return 0

    def uniform(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


@dataclass
class Memory:
    """Records in memory; `trouble` is raised by whatever is asked next, as often as it stands there."""

    held: dict[tuple[str, str, str], tuple[Fresh, bytes | None]] = field(default_factory=dict)
    trouble: list[BaseException] = field(default_factory=list)
    hangs: bool = False
    released: asyncio.Event = field(default_factory=asyncio.Event)
    swept: int = 0

    async def begin(self, fresh: Fresh) -> Found | None:
        known = self.held.setdefault(_key(fresh), (fresh, None))
        # The record is there before the trouble: what was done may not be known.
        await self._meet_trouble()
        if known[0] is fresh:
            return None
        return Found(known[0].claim.body_hash == fresh.claim.body_hash, known[1], 1.0, 60.0)

    async def finish(self, fresh: Fresh, answer: bytes) -> bool:
        await self._meet_trouble()
        if _key(fresh) not in self.held or self.held[_key(fresh)][0] is not fresh:
            return False
        self.held[_key(fresh)] = fresh, answer
        return True

    async def abandon(self, held: Sequence[Fresh]) -> None:
        await self._meet_trouble()
        for fresh in held:
            if _key(fresh) in self.held and self.held[_key(fresh)][0] is fresh:
                del self.held[_key(fresh)]
        self.released.set()

    async def sweep(self) -> int:
        await self._meet_trouble()
        self.swept += 1
        return 0

    async def _meet_trouble(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.trouble:
            raise self.trouble.pop(0)


def _key(fresh: Fresh) -> tuple[str, str, str]:
    return fresh.claim.project, fresh.claim.api_key, fresh.claim.key


def a_claim(body: bytes = b"body", *, seconds: float = 60, now: float = NOW, **fields: Any) -> Claim:
    """Of a call with so much time left."""
    named = {"project": "prj_shop", "api_key": "key_1", "key": "order-7"} | fields
    return claim(body=body, deadline=now + seconds, **named)


def live_claim(*args: Any, **fields: Any) -> Claim:
    """The same on the clock of the system."""
    return a_claim(*args, now=SystemClock().now(), **fields)


async def begun(calls: Idempotency, *args: Any, **fields: Any) -> Fresh:
    """A call that is to be made."""
    held = await calls.begin(live_claim(*args, **fields))
    assert isinstance(held, Fresh)
    return held


async def refusal(calls: Idempotency, *args: Any, **fields: Any) -> AppError:
    """Why a call may not be made now."""
    with pytest.raises(AppError) as failure:
        await calls.begin(live_claim(*args, **fields))
    return failure.value
