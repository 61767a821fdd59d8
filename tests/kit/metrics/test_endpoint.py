from __future__ import annotations

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Iterable
from itertools import pairwise

import aiohttp
import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from kit.metrics import Metrics, Reading
from kit.metrics.endpoint import MetricsUnservable, endpoint


@pytest.fixture
def measured() -> Metrics:
    metrics = Metrics()
    metrics.counter("turnout_requests", "Calls.", ("project", "status")).series('shöp\n"x"', "ok").value += 3
    seconds = metrics.histogram("turnout_request_duration_seconds", "How long.", ("project",), bounds=(0.1, 1.0))
    for value in (0.05, 0.5, 5.0):
        seconds.series("shop").observe(value)
    metrics.read(lambda: [Reading("turnout_depth", "Deep.", 7), Reading("turnout_lost", "Lost.", 2, is_counter=True)])
    metrics.read(lambda: [Reading("turnout_build_info", "Built.", 1, labels={"version": "1.2"})])
    return metrics


async def get(port: int, path: str = "/metrics", accept: str = "text/plain") -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}{path}", headers={"accept": accept}) as answer:
            return answer.status, answer.headers["content-type"], await answer.text()


async def said(port: int, data: bytes, *, first: bool = False) -> tuple[int, bytes, bytes]:
    """Status, body and head of what is answered until the connection ends, or of the first answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    body = b"" if first else await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body, head


def samples(families: Iterable[Metric]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.mark.parametrize("accept", ["text/plain;version=0.0.4", "application/openmetrics-text;version=1.0.0"])
async def test_the_page_says_what_was_measured_in_either_format(measured: Metrics, accept: str) -> None:
    async with endpoint(measured, "127.0.0.1:0") as port:
        status, content_type, text = await get(port, accept=accept)

    assert (status, content_type.split(";")[0]) == (200, accept.split(";")[0])
    parse = parse_openmetrics if "openmetrics" in accept else parse_text
    found = samples(parse(text))
    assert found["turnout_requests_total", (("project", 'shöp\n"x"'), ("status", "ok"))] == 3
    buckets = {dict(labels)["le"]: value for (name, labels), value in found.items() if name.endswith("_bucket")}
    assert buckets == {"0.1": 1, "1.0": 2, "+Inf": 3}
    assert found["turnout_request_duration_seconds_count", (("project", "shop"),)] == 3
    assert found["turnout_request_duration_seconds_sum", (("project", "shop"),)] == 5.55
    assert found["turnout_depth", ()] == 7
    assert found["turnout_lost_total", ()] == 2
    assert found["turnout_build_info", (("version", "1.2"),)] == 1
    assert ("process_resident_memory_bytes", ()) in found
    assert ("python_gc_collections_total", (("generation", "0"),)) in found
    assert not [name for name, _ in found if name.endswith("_created")]


@pytest.mark.parametrize(
    "accept",
    [
        "application/openmetrics-text; version=x",
        "text/plain; version=1.x",
        "application/openmetrics-text; version=1.0.0\u00e9",
        ";,;=",
    ],
)
async def test_whoever_asks_for_no_format_there_is_gets_the_plain_one(measured: Metrics, accept: str) -> None:
    async with endpoint(measured, "127.0.0.1:0") as port:
        status, content_type, text = await get(port, accept=accept)

    assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert samples(parse_text(text))["turnout_depth", ()] == 7


async def test_metrics_that_cannot_be_read_are_an_answer_and_one_line_in_the_log(
    measured: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> list[Reading]:
        raise RuntimeError("a secret")

    measured.read(broken)
    async with endpoint(measured, "127.0.0.1:0") as port:
        status, _, text = await get(port)
        assert (await get(port, "/healthz"))[0] == 200

    assert (status, text) == (500, "the metrics cannot be written; the process's log says why\n")
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert logged == ["the metrics are not written"]


async def test_a_large_page_is_written_beside_the_loop(measured: Metrics) -> None:
    # So many that Python's threads take turns often while it is written.
    counter = measured.counter("turnout_many", "Many.", ("name",), limit=50_000)
    for number in range(50_000):
        counter.series(str(number)).value += 1
    laps: list[float] = []

    async def lap() -> None:
        while True:
            await asyncio.sleep(0)
            laps.append(time.monotonic())

    async with endpoint(measured, "127.0.0.1:0") as port:
        running = asyncio.create_task(lap())
        # As `kit.runtime` does: to collect all that the tests have made takes longer than the page.
        gc.collect()
        gc.freeze()
        try:
            laps[:] = [time.monotonic()]
            page = (await get(port))[2]
        finally:
            gc.unfreeze()
        running.cancel()

    # By hand: the parser takes longer for them than all else here.
    counts = [line.rpartition(" ")[2] for line in page.splitlines() if line.startswith("turnout_many_total{")]
    assert sum(map(float, counts)) == len(counts) == 50_000
    # A share, not a number of laps: that depends on how fast the page is written.
    longest = max(later - earlier for earlier, later in pairwise(laps))
    assert longest < (laps[-1] - laps[0]) / 4


async def test_a_scrape_among_too_many_is_told_to_come_back(measured: Metrics) -> None:
    counter = measured.counter("turnout_many", "Many.", ("name",), limit=5000)
    for number in range(5000):
        counter.series(str(number)).value += 1

    async with endpoint(measured, "127.0.0.1:0") as port:
        statuses = [status for status, _, _ in await asyncio.gather(*(get(port) for _ in range(12)))]

    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 4


async def test_healthz_answers_and_nothing_else_is_there(measured: Metrics) -> None:
    async with endpoint(measured, "127.0.0.1:0") as port:
        assert (await get(port, "/healthz"))[::2] == (200, "ok\n")
        assert (await get(port, "/other"))[0] == 404


async def test_anything_but_a_scrape_gets_a_short_answer(measured: Metrics) -> None:
    async with endpoint(measured, "127.0.0.1:0") as port:
        head = await said(port, b"HEAD /metrics?x=1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        old = await said(port, b"GET http://h/healthz HTTP/1.0\r\n\r\n")
        other = await said(port, b"GET /other HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        written = await said(port, b"POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx" * 2, first=True)
        garbage = await said(port, b"\x16\x03\x01 hello\r\n\r\n")
        endless = await said(port, b"GET /metrics?" + b"x" * 20_000)

    assert head[:2] == (200, b""), "only its head is asked for"
    assert old[:2] == (200, b"ok\n")
    assert other[:2] == (404, b"there is nothing here but /metrics and /healthz\n")
    assert written[0] == 405
    assert b"allow: get, head" in written[2].lower()
    assert garbage[0] == 400
    assert endless[0] == 431


async def test_a_stop_does_not_wait_for_those_who_keep_connections_open(measured: Metrics) -> None:
    async with endpoint(measured, "127.0.0.1:0") as port:
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        connections[1][1].write(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\nGET /metrics HTTP/1.1\r\nHo")
        await connections[1][0].readuntil(b"ok\n")
        began = time.monotonic()

    assert time.monotonic() - began < 0.9
    for reader, writer in connections:
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        await writer.wait_closed()


async def test_workers_that_share_an_address_take_one_port_each(measured: Metrics) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        first = probe.getsockname()[1]

    async with endpoint(measured, f"127.0.0.1:{first}", workers=3) as one:
        async with endpoint(measured, f"127.0.0.1:{first}", workers=3) as two:
            # Somebody else may have the very next one.
            assert one == first
            assert two in (first + 1, first + 2)
            assert (await get(one))[0] == (await get(two))[0] == 200


async def test_an_address_that_is_taken_stops_the_start_with_its_setting(measured: Metrics) -> None:
    async with endpoint(measured, "127.0.0.1:0") as port:
        with pytest.raises(MetricsUnservable, match=f"TURNOUT_METRICS_ADDRESS: .*127.0.0.1:{port}.*in use"):
            async with endpoint(measured, f"127.0.0.1:{port}"):
                pass
