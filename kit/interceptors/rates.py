"""How often a key may call, kept by one process."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from google.protobuf.message import Message

from kit.calls import Call
from kit.errors import Exhausted
from kit.interceptors.gate import Gate

_BURST_SECONDS: Final = 10.0
_ROUNDING_SECONDS: Final = 1e-6
"""Sums of times are this exact; a call that comes when it was told to must not be refused for it."""


class Rates(Gate):
    """Interceptor, behind Auth: refuses calls of a key beyond its rate.

    :param scopes: calls of rpcs that ask for one of these count
    :param share: this process's part of each key's rate, in (0, 1]
    """

    def __init__(self, scopes: frozenset[str], share: float = 1.0) -> None:
        self._scopes = scopes
        self._share = share
        self._rates = KeyRates()

    async def enter(self, call: Call, request: Message | None) -> None:
        caller = call.principal
        if caller is not None and caller.requests_per_minute and call.method.scope in self._scopes:
            rate = caller.requests_per_minute
            self._rates.check(caller.key_id, requests_per_minute=rate, share=self._share, now=time.monotonic())


class KeyRates:
    """Bounds how often each key calls: the generic cell rate algorithm, one number a key.

    From rest a key may make 10 s worth of calls at once, at least one; afterwards they come in at its rate. Refused
    calls do not count.

    :param max_keys: how many are remembered; who called least recently is forgotten first, and has its burst again
    Source: ITU-T I.371 (2004), annex A.
    """

    def __init__(self, max_keys: int = 65_536) -> None:
        self._max_keys = max_keys
        self._due: OrderedDict[str, float] = OrderedDict()
        """When each key's calls so far would have been made, one after the other at its rate."""

    def __len__(self) -> int:
        return len(self._due)

    def check(self, key: str, *, requests_per_minute: int, share: float, now: float) -> None:
        """Count a call, or refuse it.

        :param key: uid
        :param requests_per_minute: of all processes together; 0 is no bound
        :param share: this process's, in (0, 1]
        :param now: in seconds; never less than the last
        :raises Exhausted: `KEY_RATE_EXCEEDED`, with when the next call is due
        """
        if requests_per_minute <= 0:
            return
        interval = 60.0 / (requests_per_minute * share)
        due, latest = self._due.get(key, now), now + max(_BURST_SECONDS, interval)
        if due > latest:
            # The rate was raised: what was owed at the old one does not bind the new one.
            due = self._due[key] = latest
        wait = due - now - max(0.0, _BURST_SECONDS - interval)
        if wait > _ROUNDING_SECONDS:
            raise Exhausted(
                f"this key may make {requests_per_minute} requests per minute; call again in {wait:.1f} s, or have "
                "requests_per_minute raised",
                reason="KEY_RATE_EXCEEDED",
                retry_after_seconds=wait,
                requests_per_minute=str(requests_per_minute),
            )
        self._due[key] = max(due, now) + interval
        self._due.move_to_end(key)
        first = next(iter(self._due))
        # One that is not behind is as if it had never called; one a call is enough, since one a call is added.
        if len(self._due) > self._max_keys or self._due[first] <= now:
            del self._due[first]
