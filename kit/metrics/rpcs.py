"""How many rpcs this process served, by rpc and status."""

from __future__ import annotations

import grpc
from google.protobuf.message import Message

from kit.calls import Call
from kit.metrics.instruments import MAX_SERIES, Counter, CounterSeries


class ServedCalls:
    """Interceptor, to be entered first: counts every call that has begun and ended. Costs 0.3 µs a call.

    Labels are bounded by the contracts: only rpcs that exist get here.
    """

    def __init__(self) -> None:
        self.counter = Counter("turnout_rpcs", "Rpcs that were served, by status.", ("rpc", "code"), MAX_SERIES)
        """To be shown: it is made with the server, before there is a process to show it."""
        self._series: dict[tuple[str, grpc.StatusCode], CounterSeries] = {}

    async def enter(self, call: Call, request: Message | None) -> None:
        """Nothing to do yet."""

    def leave(self, call: Call, error: BaseException | None, code: grpc.StatusCode) -> None:
        """Count it."""
        key = (call.method.full_name, code)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = self.counter.series(call.method.full_name[1:], code.name)
        series.value += 1
