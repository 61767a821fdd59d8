from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from kit import ids, status
from kit.errors import CannotStart
from kit.events.broker import broker
from kit.events.publisher import JetStreamPublisher
from kit.spool import Record
from services.analytics.config import SETTINGS, AnalyticsConfig
from services.analytics.module import module
from stack.nats import Nats
from stack.postgres import Postgres
from turnout.analytics.v1 import log_service_pb2, metrics_service_pb2
from turnout.events.v1 import request_pb2
from turnout.router.v1 import decision_pb2

SHOP, TOYS = "prj_" + "0" * 25 + "1", "prj_" + "0" * 25 + "2"
HELPER, QUIET = "dep_" + "0" * 25 + "1", "dep_" + "0" * 25 + "2"
RED, BLUE = "var_" + "0" * 25 + "1", "var_" + "0" * 25 + "2"
HOUR_US = 3_600_000_000
MakeRecord = Callable[..., Record]


async def announce(analytics: Any, until: Any, records: list[Record]) -> None:
    """Publish, and wait until analytics answers them."""
    connected = await analytics.runtime.shared(broker)
    await asyncio.wait_for(connected.connected(), 10)
    await JetStreamPublisher(connected).publish(records)

    async def are_there() -> bool:
        counts = [await total(analytics, project) for project in (SHOP, TOYS)]
        return sum(counts) == len(records)

    await until(are_there)


async def total(analytics: Any, project: str) -> int:
    request = metrics_service_pb2.QueryMetricsRequest(parent=f"projects/{project}")
    request.start_time.FromSeconds(0)
    answer = await analytics.metrics.QueryMetrics(request, metadata=analytics.key("platform"))
    return int(answer.total.requests)


def metrics_request(start_us: int | None = None, end_us: int | None = None, **fields: Any) -> Any:
    request = metrics_service_pb2.QueryMetricsRequest(**({"parent": "projects/shop"} | fields))
    if start_us is not None:
        request.start_time.FromMicroseconds(start_us)
    if end_us is not None:
        request.end_time.FromMicroseconds(end_us)
    return request


async def refusal(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return failure.value.code(), status.reason_of(failure.value)


async def test_metrics_count_and_measure_by_variant_and_deployment(
    run: Any, make_event: Any, record_of: MakeRecord, until: Any
) -> None:
    now_us = time.time_ns() // 1000
    events = [
        *(make_event(variant=(RED, "red"), latency_us=1000 * n, cost_usd_micros=5) for n in range(1, 101)),
        *(make_event(variant=(BLUE, "blue"), status=request_pb2.REQUEST_STATUS_ERROR, tokens=None) for _ in range(20)),
        # Failed before a decision: only the slug tells whose it was.
        *(make_event(variant=None, status=request_pb2.REQUEST_STATUS_ERROR, tokens=None) for _ in range(3)),
        make_event(variant=(RED, "red"), status=request_pb2.REQUEST_STATUS_LOST, tokens=None),
        make_event(variant=(RED, "crimson"), status=request_pb2.REQUEST_STATUS_CANCELLED, start_us=now_us - 1000),
        make_event(project=TOYS, project_slug="toys"),
    ]
    async with run() as analytics:
        await announce(analytics, until, [record_of(event) for event in events])

        answer = await analytics.metrics.QueryMetrics(metrics_request(), metadata=analytics.key())

        red, blue, failed = answer.rows
        assert (red.deployment, red.deployment_slug, red.variant) == (HELPER, "helper", RED)
        assert red.variant_slug == "crimson"
        assert (red.requests, red.ok, red.lost, red.cancelled) == (102, 100, 1, 1)
        assert (red.input_tokens, red.output_tokens) == (1010, 505)
        assert (red.cost_usd_micros, red.unknown_cost_requests) == (500, 1)
        assert red.latency_p50_us == pytest.approx(51_000, rel=0.01)
        assert red.latency_p99_us == pytest.approx(100_000, rel=0.01)
        assert (blue.variant, blue.requests, blue.errors, blue.unknown_cost_requests) == (BLUE, 20, 20, 0)
        assert (failed.deployment, failed.deployment_slug, failed.variant, failed.variant_slug) == (
            HELPER,
            "helper",
            "",
            "",
        )
        assert (answer.total.requests, answer.total.deployment) == (125, "")
        assert answer.end_time.ToMicroseconds() - answer.start_time.ToMicroseconds() == 30 * 24 * HOUR_US

        grouped = metrics_request(group_by=metrics_service_pb2.METRICS_DIMENSION_DEPLOYMENT)
        [row] = (await analytics.metrics.QueryMetrics(grouped, metadata=analytics.key())).rows
        assert (row.deployment, row.variant, row.variant_slug, row.requests) == (HELPER, "", "", 125)

        for name in ("helper", HELPER):
            request = metrics_request(deployment=name)
            answer = await analytics.metrics.QueryMetrics(request, metadata=analytics.key())
            assert answer.total.requests == 125
        quiet = await analytics.metrics.QueryMetrics(metrics_request(deployment="quiet"), metadata=analytics.key())
        assert (list(quiet.rows), quiet.total.requests) == ([], 0)
        assert not quiet.total.HasField("latency_p50_us")


async def test_a_call_that_was_refused_is_found_with_its_rule_and_counts_as_its_deployments_error(
    run: Any, make_event: Any, record_of: MakeRecord, until: Any
) -> None:
    refusal = decision_pb2.Decision(
        deployment=HELPER,
        alias="canary",
        revision="rev_1",
        revision_number="1.0",
        evaluation=decision_pb2.EVALUATION_MATCHED,
        key_kind=decision_pb2.KEY_KIND_USER,
        rule="rul_1",
        rule_name="Spanish",
    )
    failed = {"variant": None, "status": request_pb2.REQUEST_STATUS_ERROR, "tokens": None}
    refused = make_event(**failed, decision=refusal, reason="NO_ACTIVE_VARIANT", context_json='{"country":"ES"}')
    # As an older process announces the same.
    of_old = make_event(**failed, reason="NO_ACTIVE_VARIANT", start_us=refused.start_time.ToMicroseconds() - 1)
    events = [refused, of_old, make_event(start_us=refused.start_time.ToMicroseconds() - 2)]
    async with run() as analytics:
        await announce(analytics, until, [record_of(event) for event in events])

        for name in ("helper", HELPER):
            request = log_service_pb2.ListLogsRequest(
                parent="projects/shop", deployment=name, status=request_pb2.REQUEST_STATUS_ERROR
            )
            answer = await analytics.logs.ListLogs(request, metadata=analytics.key())
            assert [log.request for log in answer.logs] == [refused, of_old]
            answer = await analytics.metrics.QueryMetrics(metrics_request(deployment=name), metadata=analytics.key())
            rows = [(row.deployment, row.variant, row.variant_slug, row.ok, row.errors) for row in answer.rows]
            assert rows == [(HELPER, "", "", 0, 2), (HELPER, RED, "red", 1, 0)]
        of_red = log_service_pb2.ListLogsRequest(parent="projects/shop", deployment="helper", variant=RED)
        assert len((await analytics.logs.ListLogs(of_red, metadata=analytics.key())).logs) == 1


async def test_windows_with_ragged_edges_are_exact(
    run: Any, make_event: Any, record_of: MakeRecord, until: Any
) -> None:
    now_us = time.time_ns() // 1000
    starts = [now_us - n * HOUR_US // 3 for n in range(200)]
    async with run() as analytics:
        await announce(analytics, until, [record_of(make_event(start_us=start)) for start in starts])

        for first, last in ((0, 200), (3, 4), (1, 150), (17, 91), (199, 200), (5, 7)):
            start_us, end_us = starts[last - 1], starts[first] + 1
            answer = await analytics.metrics.QueryMetrics(metrics_request(start_us, end_us), metadata=analytics.key())
            assert answer.total.requests == last - first
            assert answer.start_time.ToMicroseconds() == start_us
            assert answer.end_time.ToMicroseconds() == end_us


async def test_logs_come_newest_first_page_by_page_exactly_as_announced(
    run: Any, make_event: Any, record_of: MakeRecord, until: Any
) -> None:
    now_us = time.time_ns() // 1000
    # Some at the very same moment: then the request id orders them.
    events = [make_event(start_us=now_us - n // 4 * 1_000_000 - 1_000_000) for n in range(103)]
    expected = sorted(events, key=lambda event: (event.start_time.ToMicroseconds(), event.request_id), reverse=True)
    async with run() as analytics:
        await announce(analytics, until, [record_of(event) for event in events])

        found, token = [], ""
        while True:
            request = log_service_pb2.ListLogsRequest(parent="projects/shop", page_size=10, page_token=token)
            page = await analytics.logs.ListLogs(request, metadata=analytics.key())
            found += page.logs
            if not (token := page.next_page_token):
                break
            assert len(page.logs) == 10

        assert [log.request for log in found] == expected
        assert found[0].name == f"projects/shop/logs/{expected[0].request_id}"
        assert len(page.logs) == 3


async def test_logs_are_filtered_by_what_the_contract_names(
    run: Any, make_event: Any, record_of: MakeRecord, until: Any
) -> None:
    now_us = time.time_ns() // 1000
    events = [
        make_event(variant=(RED, "red"), start_us=now_us - 10_000_000),
        make_event(variant=(BLUE, "blue"), start_us=now_us - 20_000_000, status=request_pb2.REQUEST_STATUS_ERROR),
        make_event(variant=None, start_us=now_us - 30_000_000, status=request_pb2.REQUEST_STATUS_ERROR),
        make_event(deployment=(QUIET, "quiet"), start_us=now_us - 40_000_000),
        make_event(project=TOYS, project_slug="toys"),
    ]
    async with run() as analytics:
        await announce(analytics, until, [record_of(event) for event in events])

        async def listed(**fields: Any) -> list[int]:
            start_us, end_us = fields.pop("start_us", None), fields.pop("end_us", None)
            request = log_service_pb2.ListLogsRequest(parent=f"projects/{SHOP}", **fields)
            if start_us is not None:
                request.start_time.FromMicroseconds(start_us)
            if end_us is not None:
                request.end_time.FromMicroseconds(end_us)
            answer = await analytics.logs.ListLogs(request, metadata=analytics.key())
            ids_of = [event.request_id for event in events]
            return [ids_of.index(log.request.request_id) for log in answer.logs]

        assert await listed() == [0, 1, 2, 3]
        assert await listed(deployment="helper") == await listed(deployment=HELPER) == [0, 1, 2]
        assert await listed(deployment="quiet") == [3]
        assert await listed(variant="blue") == await listed(variant=BLUE) == [1]
        assert await listed(deployment="quiet", variant="red") == [3]
        assert await listed(status=request_pb2.REQUEST_STATUS_ERROR) == [1, 2]
        assert await listed(status=request_pb2.REQUEST_STATUS_OK, deployment="helper") == [0]
        assert await listed(start_us=now_us - 20_000_000) == [0, 1]
        assert await listed(end_us=now_us - 20_000_000) == [2, 3]
        assert await listed(start_us=now_us - 30_000_000, end_us=now_us - 10_000_000) == [1, 2]


async def test_a_page_of_large_events_ends_early_and_goes_on(
    run: Any, make_event: Any, record_of: MakeRecord, until: Any
) -> None:
    events = [make_event(metadata_json="x" * 250_000) for _ in range(20)]
    async with run() as analytics:
        await announce(analytics, until, [record_of(event) for event in events])

        sizes, token = [], ""
        while True:
            request = log_service_pb2.ListLogsRequest(parent="projects/shop", page_token=token)
            page = await analytics.logs.ListLogs(request, metadata=analytics.key())
            sizes.append(len(page.logs))
            if not (token := page.next_page_token):
                break

        assert sum(sizes) == 20
        assert sizes[0] == 13


async def test_who_may_not_see_a_project_does_not_learn_that_it_is_there(run: Any) -> None:
    async with run() as analytics:

        async def ask(parent: str, key: str) -> tuple[grpc.StatusCode, str]:
            request = metrics_request(parent=parent)
            logs = log_service_pb2.ListLogsRequest(parent=parent)
            one = await refusal(analytics.metrics.QueryMetrics(request, metadata=analytics.key(key)))
            other = await refusal(analytics.logs.ListLogs(logs, metadata=analytics.key(key)))
            assert one == other
            return one

        assert await ask("projects/toys", SHOP) == (grpc.StatusCode.NOT_FOUND, "PROJECT_NOT_FOUND")
        assert await ask(f"projects/{TOYS}", SHOP) == (grpc.StatusCode.NOT_FOUND, "PROJECT_NOT_FOUND")
        assert await ask("projects/nowhere", "platform") == (grpc.StatusCode.NOT_FOUND, "PROJECT_NOT_FOUND")
        assert await ask("shop", SHOP) == (grpc.StatusCode.INVALID_ARGUMENT, "RESOURCE_NAME_MALFORMED")
        assert await ask("projects/shop", "powerless") == (grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING")


async def test_questions_that_make_no_sense_are_refused_with_a_reason(
    run: Any, make_event: Any, record_of: MakeRecord, until: Any
) -> None:
    async with run() as analytics:
        await announce(analytics, until, [record_of(make_event()) for _ in range(2)])

        async def metrics(**fields: Any) -> str:
            call = analytics.metrics.QueryMetrics(metrics_request(**fields), metadata=analytics.key())
            return (await refusal(call))[1]

        async def logs(**fields: Any) -> str:
            request = log_service_pb2.ListLogsRequest(parent="projects/shop", **fields)
            return (await refusal(analytics.logs.ListLogs(request, metadata=analytics.key())))[1]

        assert await metrics(start_us=2_000_000, end_us=1_000_000) == "WINDOW_EMPTY"
        assert await metrics(deployment="nobody") == "DEPLOYMENT_NOT_FOUND"
        assert await logs(deployment="nobody") == "DEPLOYMENT_NOT_FOUND"
        assert await logs(variant="nobody") == "VARIANT_NOT_FOUND"
        assert await logs(page_token="x") == "PAGE_TOKEN_INVALID"
        assert await logs(page_size=-1) == "INVALID_REQUEST"
        first = log_service_pb2.ListLogsRequest(parent="projects/shop", page_size=1)
        page = await analytics.logs.ListLogs(first, metadata=analytics.key())
        assert await logs(page_token=page.next_page_token, deployment="helper") == "PAGE_TOKEN_INVALID"
        malformed = metrics_request()
        malformed.start_time.seconds = 1 << 60
        call = analytics.metrics.QueryMetrics(malformed, metadata=analytics.key())
        assert (await refusal(call))[1] == "TIME_MALFORMED"


async def test_without_nats_analytics_starts_and_answers_and_catches_up(
    run: Any, nats: Nats, make_event: Any, record_of: MakeRecord, until: Any
) -> None:
    nats.stop()
    async with run() as analytics:
        assert await total(analytics, SHOP) == 0
        await asyncio.to_thread(nats.start)
        await announce(analytics, until, [record_of(make_event())])


async def test_without_postgres_questions_are_unavailable_until_it_is_back(
    run: Any,
    settings: Callable[[str, str], None],
    tmp_path_factory: pytest.TempPathFactory,
    migrated: Any,
    make_event: Any,
    record_of: MakeRecord,
    until: Any,
) -> None:
    with Postgres(tmp_path_factory.mktemp("restarting")) as postgres:
        postgres.create_database("a")
        await migrated(postgres.url("a"))
        settings("TURNOUT_ANALYTICS_DATABASE_URL", postgres.url("a"))
        async with run() as analytics:
            await announce(analytics, until, [record_of(make_event())])
            await asyncio.to_thread(postgres.kill)
            call = analytics.metrics.QueryMetrics(metrics_request(), metadata=analytics.key())
            assert await refusal(call) == (grpc.StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE")
            await asyncio.to_thread(postgres.start)
            answer = await analytics.metrics.QueryMetrics(metrics_request(), metadata=analytics.key())
            assert answer.total.requests == 1
        postgres.remove_data()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "TURNOUT_ANALYTICS_DATABASE_URL is not set"),
        ("postgresql+asyncpg://postgres@127.0.0.1:1/none", "TURNOUT_ANALYTICS_DATABASE_URL: the database"),
    ],
)
async def test_a_database_that_is_not_there_stops_the_start_with_a_sentence(
    run: Any, settings: Callable[[str, str], None], url: str, words: str
) -> None:
    settings("TURNOUT_ANALYTICS_DATABASE_URL", url)
    with pytest.raises(CannotStart, match=words):
        async with run():
            pass


async def test_a_schema_that_was_not_migrated_stops_the_start_and_says_what_to_run(
    run: Any, settings: Callable[[str, str], None], postgres: Postgres
) -> None:
    postgres.create_database("unmigrated")
    settings("TURNOUT_ANALYTICS_DATABASE_URL", postgres.url("unmigrated"))
    with pytest.raises(CannotStart, match="services migrate"):
        async with run():
            pass


async def test_migrating_twice_and_at_once_is_migrating_once(postgres: Postgres, migrated: Any) -> None:
    postgres.create_database("twice")
    url = postgres.url("twice")

    assert set(await asyncio.gather(migrated(url), migrated(url))) == {"0002"}


def test_the_module_and_its_settings_are_where_the_composition_root_looks() -> None:
    assert SETTINGS is AnalyticsConfig
    assert callable(module)
    assert ids.is_uid(SHOP)
