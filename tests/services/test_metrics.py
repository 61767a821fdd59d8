"""What a call that ended moves; the events are those that services write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from catalog.view import Provider, ProviderKind, View
from kit.errors import Unavailable
from kit.interceptors import Chain
from kit.metrics import OTHER, Metrics, metrics
from kit.runtime import ProcessOptions, Runtime
from kit.server import Server, ServerOptions
from kit.telemetry import Tracing
from services.metrics import MAX_PLACES, MAX_REASONS, Metering, RequestMetrics
from turnout.chat.v1 import message_pb2
from turnout.events.v1 import request_pb2 as pb
from turnout.executor.v1 import execution_pb2
from turnout.registry.v1 import deployment_pb2
from turnout.router.v1 import decision_pb2

PLACE = ("shop", "travel-assistant", "plain", "completion")


def served(**fields: Any) -> pb.RequestServed:
    event = pb.RequestServed(
        project_slug="shop",
        deployment_slug="travel-assistant",
        latency_us=250_000,
        status=pb.REQUEST_STATUS_OK,
        provider="openai",
        model="gpt",
        kind=deployment_pb2.DEPLOYMENT_KIND_COMPLETION,
    )
    event.decision.variant_slug = "plain"
    event.MergeFrom(pb.RequestServed(**fields))
    return event


class Measured:
    """The instruments, by name."""

    def __init__(self, kinds: Mapping[tuple[str, str], ProviderKind] | None = None) -> None:
        self.metrics = Metrics()
        self._requests = RequestMetrics(self.metrics, lambda *provider: (kinds or {}).get(provider))

    def observe(self, *events: pb.RequestServed) -> Measured:
        for event in events:
            self._requests.observe(event.SerializeToString())
        return self

    def counts(self, name: str) -> dict[tuple[str, ...], float]:
        counter = next(counter for counter in self.metrics.counters if counter.name == name)
        return {values: series.value for values, series in counter.all()}

    def spread(self, name: str) -> dict[tuple[str, ...], tuple[int, float]]:
        histogram = next(histogram for histogram in self.metrics.histograms if histogram.name == name)
        return {values: (sum(series.counts), series.total) for values, series in histogram.all()}


@pytest.fixture
def measured() -> Measured:
    return Measured()


def test_a_call_is_counted_with_its_place_its_kind_and_its_end(measured: Measured) -> None:
    measured.observe(served(), served(), served(status=pb.REQUEST_STATUS_ERROR, reason="PROVIDER_TIMEOUT"))

    assert measured.counts("turnout_requests") == {(*PLACE, "ok"): 2, (*PLACE, "error"): 1}
    assert measured.counts("turnout_request_errors") == {(*PLACE, "PROVIDER_TIMEOUT"): 1}
    assert measured.spread("turnout_request_duration_seconds") == {PLACE: (3, 0.75)}


def test_decisions_are_counted_by_variant_and_by_what_decided(measured: Measured) -> None:
    by_rule = decision_pb2.Decision(evaluation=decision_pb2.EVALUATION_MATCHED)
    by_weight = decision_pb2.Decision(evaluation=decision_pb2.EVALUATION_DEFAULT_MATCHED)
    measured.observe(served(decision=by_rule), served(decision=by_weight), served(decision=by_weight), served())
    assert measured.counts("turnout_decisions") == {(*PLACE, "matched"): 1, (*PLACE, "default_matched"): 2}


def test_a_call_that_was_refused_was_assigned_nothing(measured: Measured) -> None:
    refused = served(status=pb.REQUEST_STATUS_ERROR, reason="NO_ACTIVE_VARIANT")
    refused.decision.Clear()
    refused.decision.evaluation = decision_pb2.EVALUATION_MATCHED
    measured.observe(refused)
    assert measured.counts("turnout_decisions") == {}
    assert sum(measured.counts("turnout_request_errors").values()) == 1


def test_what_was_only_tried_moves_nothing(measured: Measured) -> None:
    measured.observe(served(source=execution_pb2.SOURCE_SIMULATOR, status=pb.REQUEST_STATUS_ERROR, reason="X"))
    assert all(not list(counter.all()) for counter in measured.metrics.counters if counter.name.startswith("turnout_r"))
    assert not measured.spread("turnout_request_duration_seconds")


def test_a_lost_call_is_an_error_that_took_no_time(measured: Measured) -> None:
    measured.observe(served(status=pb.REQUEST_STATUS_LOST))

    assert measured.counts("turnout_requests") == {(*PLACE, "lost"): 1}
    assert measured.counts("turnout_request_errors") == {(*PLACE, "LOST"): 1}
    assert measured.spread("turnout_request_duration_seconds") == {}


def test_tokens_and_cost_are_summed_and_an_unknown_price_is_no_zero(measured: Measured) -> None:
    event = served(cost_usd_micros=1_500)
    event.usage.input_tokens, event.usage.output_tokens = 100, 20
    unknown = served()
    unknown.usage.input_tokens = 7

    measured.observe(event, event, unknown, served())

    assert measured.counts("turnout_tokens") == {(*PLACE, "input"): 207, (*PLACE, "output"): 40}
    assert measured.counts("turnout_cost_usd") == {PLACE: pytest.approx(0.003)}
    assert measured.counts("turnout_unknown_cost_requests") == {PLACE: 1}
    assert measured.spread("gen_ai_client_token_usage") == {
        ("chat", "openai", "gpt", "input"): (3, 207),
        ("chat", "openai", "gpt", "output"): (2, 40),
    }


def test_every_attempt_is_an_operation_of_its_provider(measured: Measured) -> None:
    event = served()
    event.attempts.add(provider="openai", model="gpt", reason="PROVIDER_RATE_LIMITED", latency_us=10_000)
    event.attempts.add(provider="backup", model="llama", latency_us=20_000)

    measured.observe(event)

    assert measured.counts("turnout_attempts") == {
        ("openai", "gpt", "PROVIDER_RATE_LIMITED"): 1,
        ("backup", "llama", "ok"): 1,
    }
    assert measured.spread("gen_ai_client_operation_duration_seconds") == {
        ("chat", "openai", "gpt", "PROVIDER_RATE_LIMITED"): (1, 0.01),
        ("chat", "backup", "llama", ""): (1, 0.02),
    }


def test_a_provider_has_the_name_that_spans_give_it_in_metrics_of_the_conventions() -> None:
    measured = Measured({("prj_1", "claude"): ProviderKind.ANTHROPIC, ("prj_1", "own"): ProviderKind.OPENAI_COMPATIBLE})
    event = served(project="prj_1", provider="claude", streamed=True, time_to_first_token_us=50_000)
    event.usage.output_tokens = 5
    for slug in ("claude", "own", "gone"):
        event.attempts.add(provider=slug, model="gpt", latency_us=10_000)
    measured.observe(event)

    assert [series[1] for series in measured.spread("gen_ai_client_operation_duration_seconds")] == [
        "anthropic",
        "own",
        "gone",
    ]
    assert list(measured.spread("gen_ai_client_token_usage")) == [("chat", "anthropic", "gpt", "output")]
    assert list(measured.spread("gen_ai_server_time_per_output_token_seconds")) == [("chat", "anthropic", "gpt")]
    assert ("claude", "gpt", "ok") in measured.counts("turnout_attempts"), "where it is called as its operator does"


class Catalog:
    """A view, or none that may be used."""

    age_seconds, sequence = 0.0, 1

    def __init__(self) -> None:
        self.view: View | None = None

    def usable_view(self) -> View:
        if self.view is None:
            raise Unavailable("no catalog yet", reason="CATALOG_UNAVAILABLE")
        return self.view


async def test_a_process_that_is_scraped_calls_providers_what_its_catalog_says_they_are() -> None:
    tracing = Tracing(sample_ratio=0, resource={}, exporter=None)
    server = Server(Chain(tracing, ()), ServerOptions("127.0.0.1:0", 10, 300, 0, shares_port=False))
    metering = Metering("127.0.0.1:0", workers=1, instance="ins_1", services=("executor",))
    catalog = Catalog()
    event = served(project="prj_1", provider="claude", usage=message_pb2.Usage(output_tokens=5))
    event.attempts.add(provider="claude", model="gpt", latency_us=10_000)
    unknown = served(project="prj_2", provider="claude", usage=message_pb2.Usage(output_tokens=5))
    claude = Provider("prv_1", "prj_1", "claude", ProviderKind.ANTHROPIC, "https://x")

    async with Runtime(ProcessOptions("ins_1", (), {}, None, None), server, tracing) as runtime:
        await runtime.enter(metering.module)
        measured = await runtime.shared(metrics)
        [observe] = measured.event_observers(event.DESCRIPTOR.full_name)
        usage = next(histogram for histogram in measured.histograms if histogram.name == "gen_ai_client_token_usage")

        def providers(of: pb.RequestServed) -> list[tuple[str, int]]:
            observe(of.SerializeToString())
            return [(values[1], sum(series.counts)) for values, series in usage.all()]

        assert providers(event) == [("claude", 1)]
        await metering.follow(runtime, catalog)
        assert providers(event) == [("claude", 2)], "while there is no catalog"
        catalog.view = View().with_changes(1, [("provider/prv_1", claude)])
        assert providers(event) == [("claude", 2), ("anthropic", 1)]
        assert providers(unknown) == [("claude", 3), ("anthropic", 1)], "another project's"


def test_an_attempt_that_asked_nobody_is_counted_and_is_no_operation(measured: Measured) -> None:
    event = served()
    for reason in ("PROVIDER_CIRCUIT_OPEN", "PROVIDER_BUSY", "PROVIDER_CREDENTIAL_MISSING", "PROVIDER_TIMEOUT"):
        event.attempts.add(provider="openai", model="gpt", reason=reason, latency_us=10_000)
    event.attempts.add(provider="openai", model="gpt", reason="PROVIDER_ERROR", http_status=500, latency_us=10_000)

    measured.observe(event)

    assert sum(measured.counts("turnout_attempts").values()) == 5
    assert measured.spread("gen_ai_client_operation_duration_seconds") == {
        ("chat", "openai", "gpt", "PROVIDER_TIMEOUT"): (1, 0.01),
        ("chat", "openai", "gpt", "PROVIDER_ERROR"): (1, 0.01),
    }


@pytest.mark.parametrize(
    ("first_us", "tokens", "expected"),
    [(50_000, 5, (1, 0.05)), (250_000, 2, (1, 0.0)), (50_000, 1, None), (None, 5, None)],
)
def test_the_time_per_token_is_that_of_the_tokens_after_the_first(
    measured: Measured, first_us: int | None, tokens: int, expected: tuple[int, float] | None
) -> None:
    event = served(streamed=True, time_to_first_token_us=first_us)
    event.usage.output_tokens = tokens
    measured.observe(event, served(streamed=True, time_to_first_token_us=first_us))

    found = measured.spread("gen_ai_server_time_per_output_token_seconds")
    assert list(found) == ([] if expected is None else [("chat", "openai", "gpt")])
    assert list(found.values()) == ([] if expected is None else [pytest.approx(expected)])


def test_the_first_token_is_measured_where_there_was_one(measured: Measured) -> None:
    measured.observe(served(), served(streamed=True, time_to_first_token_us=30_000))

    assert measured.spread("turnout_request_time_to_first_token_seconds") == {PLACE: (1, 0.03)}


def test_recommendations_are_told_apart(measured: Measured) -> None:
    measured.observe(served(kind=deployment_pb2.DEPLOYMENT_KIND_RECOMMENDATION))

    assert measured.counts("turnout_requests") == {(*PLACE[:3], "recommendation", "ok"): 1}


def test_reasons_are_bounded_and_nothing_but_words(measured: Measured) -> None:
    reasons = ["no word", "x" * 100, *(f"REASON_{number}" for number in range(MAX_REASONS + 5))]
    measured.observe(*(served(status=pb.REQUEST_STATUS_ERROR, reason=reason) for reason in reasons))

    counts = measured.counts("turnout_request_errors")
    assert len(counts) == MAX_REASONS + 1
    assert counts[(*PLACE, OTHER)] == 7


def test_deployments_without_end_do_not_fill_the_memory_and_their_errors_still_show(measured: Measured) -> None:
    measured.observe(*(served(deployment_slug=f"d{number}") for number in range(5000)))
    measured.observe(served(deployment_slug="d9999", status=pb.REQUEST_STATUS_ERROR), served(deployment_slug="d1"))

    counts = measured.counts("turnout_requests")
    assert len(counts) == MAX_PLACES + 2
    assert counts[("shop", "d1", "plain", "completion", "ok")] == 2
    assert counts[(OTHER, OTHER, OTHER, "completion", "ok")] == 5000 - MAX_PLACES
    assert counts[(OTHER, OTHER, OTHER, "completion", "error")] == 1
    assert len(measured.spread("turnout_request_duration_seconds")) == MAX_PLACES + 1


def test_an_event_that_cannot_be_read_is_counted_and_harms_nothing(measured: Measured) -> None:
    RequestMetrics.observe(measured._requests, b"\xff\xff")
    measured.observe(served())

    assert measured.counts("turnout_unreadable_events") == {(): 1}
    assert measured.counts("turnout_requests") == {(*PLACE, "ok"): 1}


def test_a_process_that_is_not_scraped_surrounds_no_rpc_and_loads_no_writer_of_pages() -> None:
    assert Metering("", workers=1, instance="ins_1", services=("executor",)).interceptors == ()
    assert len(Metering("127.0.0.1:0", workers=1, instance="ins_1", services=("executor",)).interceptors) == 1

    loaded = "import sys, services.metrics, kit.events.outbox; print('prometheus_client' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "False", done.stderr
