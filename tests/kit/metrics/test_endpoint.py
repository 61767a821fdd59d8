from __future__ import annotations

import asyncio
import gc
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
