from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from catalog.plan import Evaluation, KeyKind, Refusal
from catalog.routing import Rule
from catalog.view import Provider, ProviderKind, View
from kit.telemetry import Tracing
from kit.values import replace
from services.executor.domain import Attempt, Reason, Run, Status
from services.executor.traces import PastTraces
from tests.services.executor.test_recorder import ended, started

FAILED = Attempt("main", "m", 503, Reason.ERROR, "the provider answered HTTP 503", 1_000, 2_000)
SERVED = Attempt("other", "spare", 200, "", "", 5_000, 4_000, 1)


class Told:
    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._tracing = Tracing(sample_ratio=0, resource={}, exporter=self._exporter)
        self.past = PastTraces(self._tracing, slow_us=1_000_000)

    def spans(self) -> list[ReadableSpan]:
        self._tracing.shutdown()
        return list(self._exporter.get_finished_spans())


@pytest.fixture
def told() -> Told:
    return Told()


def failed() -> Run:
    run = ended(started())
    run.call = replace(run.call, span_id="b" * 16)
    run.status, run.reason, run.latency_us = Status.ERROR, "PROVIDER_FAILED", 10_000
    run.attempts = [FAILED, SERVED]
    return run


def test_an_error_outside_the_sample_is_told_from_its_attempts(told: Told) -> None:
    run = failed()
    told.past.consider(run)

    first, second, root = told.spans()
    assert {f"{span.context.trace_id:032x}" for span in (first, second, root) if span.context} == {"a" * 32}
    assert root.name == "turnout.executor.v1.ExecutionService/Run"
    assert root.attributes is not None
    assert root.attributes["feature_flag.result.variant"] == "v1"
    assert (root.start_time, root.end_time) == (run.start_unix_ns, run.start_unix_ns + 10_000_000)
    assert root.parent is not None
    assert f"{root.parent.span_id:016x}" == "b" * 16
    assert first.parent is not None
    assert root.context is not None
    assert first.parent.span_id == root.context.span_id
    assert (first.name, first.start_time, first.end_time) == (
        "chat m",
        run.start_unix_ns + 1_000_000,
        run.start_unix_ns + 3_000_000,
    )
    assert first.attributes is not None
    assert first.attributes["error.type"] == "PROVIDER_ERROR"
    assert second.attributes is not None
    assert "error.type" not in second.attributes


def test_a_slow_call_is_told_and_a_usual_one_is_not(told: Told) -> None:
    for latency_us in (999_999, 1_000_000):
        run = ended(started())
        run.latency_us = latency_us
        told.past.consider(run)
    assert len(told.spans()) == 1


@pytest.mark.parametrize(("reason", "count"), [("DEADLINE_EXCEEDED", 3), ("CALLER_LEFT", 0)])
def test_a_call_that_ran_out_of_time_is_told_and_one_whose_caller_left_is_not(
    told: Told, reason: str, count: int
) -> None:
    run = failed()
    run.status, run.reason = Status.CANCELLED, reason
    run.attempts = [FAILED, replace(FAILED, reason=Reason.CANCELLED, http_status=0)]
    told.past.consider(run)

    spans = told.spans()
    assert len(spans) == count
    errors = [span.attributes["error.type"] for span in spans if span.attributes is not None]
    assert errors == ["PROVIDER_ERROR", "CANCELLED", "DEADLINE_EXCEEDED"][:count]
    assert all(not span.status.is_ok for span in spans)


NAMES = {
    ProviderKind.OPENAI: "openai",
    ProviderKind.OPENAI_COMPATIBLE: "main",
    ProviderKind.ANTHROPIC: "anthropic",
    ProviderKind.OLLAMA: "ollama",
}


@pytest.mark.parametrize("kind", ProviderKind)
def test_a_provider_has_the_name_that_the_conventions_give_it(told: Told, kind: ProviderKind) -> None:
    run, provider = failed(), Provider("prv_1", "prj_shop", "main", kind, "https://x/v1")
    run.seen = View().with_changes(1, [("provider/prv_1", provider)])
    told.past.consider(run)

    first, second, _ = told.spans()
    assert first.attributes is not None
    assert (first.attributes["gen_ai.provider.name"], first.attributes["turnout.provider"]) == (NAMES[kind], "main")
    assert second.attributes is not None
    assert second.attributes["gen_ai.provider.name"] == "other", "one that is gone has its slug"


def test_what_has_spans_already_is_not_told_again(told: Told) -> None:
    run = failed()
    run.call = replace(run.call, is_sampled=True)
    told.past.consider(run)
    assert not told.spans()


@pytest.mark.parametrize("reason", [Reason.CIRCUIT_OPEN, Reason.BUSY, Reason.CREDENTIAL_MISSING])
def test_an_attempt_that_asked_nobody_is_no_call(told: Told, reason: Reason) -> None:
    run = failed()
    run.attempts = [replace(FAILED, http_status=0, reason=reason), SERVED]
    told.past.consider(run)
    assert [span.name for span in told.spans()] == ["chat spare", "turnout.executor.v1.ExecutionService/Run"]


@pytest.mark.parametrize("began", [[100.0], [80.0, 95.0], [40.0, 99.9, 60.0]])
def test_when_everything_fails_some_are_told_whenever_it_began(told: Told, began: list[float]) -> None:
    for number in range(200):
        run = failed()
        run.attempts = []
        ended = 101 + number / 100
        run.started = began[number % len(began)]
        run.start_unix_ns += round(run.started * 1e9)
        run.latency_us = round((ended - run.started) * 1e6)
        told.past.consider(run)
    assert len(told.spans()) == 40


def told_of(told: Told, run: Run) -> dict[str, object]:
    """The attributes of the only span, without those of every call."""
    told.past.consider(run)
    [root] = told.spans()
    ours = ("turnout.request_id", "turnout.project", "turnout.retrospective")
    return {name: value for name, value in (root.attributes or {}).items() if name not in ours}


CALLED = {
    "feature_flag.key": "assistant",
    "feature_flag.provider.name": "turnout",
    "feature_flag.set.id": "rev_1",
    "feature_flag.version": "1.0",
    "turnout.alias": "live",
}


def test_of_a_call_that_nothing_could_serve_it_is_told_what_was_decided(told: Told) -> None:
    run = failed()
    run.attempts, run.decision, run.reason = [], None, "NO_ACTIVE_VARIANT"
    assert run.target is not None
    rule = Rule("rul_1", "Spanish", "true", True, ())
    run.refusal = Refusal(run.target, Evaluation.MATCHED, KeyKind.THREAD, rule, outside_coverage=False)

    assert told_of(told, run) == CALLED | {
        "error.type": "NO_ACTIVE_VARIANT",
        "feature_flag.result.reason": "error",
        "turnout.evaluation": "matched",
        "turnout.rule": "rul_1",
    }


def test_of_a_call_that_failed_before_its_decision_it_is_told_what_it_called(told: Told) -> None:
    run = failed()
    run.attempts, run.decision, run.reason = [], None, "JSON_MALFORMED"
    assert told_of(told, run) == CALLED | {"error.type": "JSON_MALFORMED"}


def test_a_completion_without_a_deployment_is_no_flag(told: Told) -> None:
    run = failed()
    run.attempts, run.decision, run.target = [], None, None
    assert told_of(told, run) == {"error.type": "PROVIDER_FAILED"}
