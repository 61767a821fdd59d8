from __future__ import annotations

import grpc

from kit.calls import Call, Method
from kit.metrics import ServedCalls
from kit.telemetry import TraceContext


async def test_every_call_is_counted_by_rpc_and_status() -> None:
    served = ServedCalls()
    place = TraceContext("a" * 32, "b" * 16, sampled=False)
    for name, code in (("Run", "OK"), ("Run", "OK"), ("Run", "UNAVAILABLE"), ("List", "OK")):
        call = Call(Method(f"/a.B/{name}", "scope"), {}, "", 0, place)
        await served.enter(call, None)
        served.leave(call, None, grpc.StatusCode[code])

    assert {values: series.value for values, series in served.counter.all()} == {
        ("a.B/Run", "OK"): 2,
        ("a.B/Run", "UNAVAILABLE"): 1,
        ("a.B/List", "OK"): 1,
    }
