"""Metrics of a process: what its calls were, from the events it relays, and how it is.

An event is counted once the broker has it, by the process that relayed it, those that report calls of a dead process
lost included. So these stand still while NATS is down and catch up when it is back; `turnout_spool_…` tells of it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Final, Protocol, TypeAlias

from google.protobuf.message import DecodeError

from catalog.view import ProviderKind, View
from kit.calls import Interceptor
from kit.errors import AppError
from kit.metrics import OTHER, Metrics, Reading, ServedCalls, metrics
from kit.metrics.loop_lag import BOUNDS_SECONDS, measure_lag
from kit.runtime import Runtime
from services.attempts import asked_nobody, provider_name
from turnout.chat.v1 import message_pb2
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2
from turnout.registry.v1 import deployment_pb2
from turnout.router.v1 import decision_pb2

LATENCY_BOUNDS_SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 120.0, 300.0, 600.0),
)
"""From a recommendation to the longest deadline that is given by default."""
GEN_AI_SECONDS: Final = tuple(0.01 * 2**power for power in range(14))
GEN_AI_TOKENS: Final = tuple(float(4**power) for power in range(14))
GEN_AI_SECONDS_PER_TOKEN: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
"""The bounds that OpenTelemetry's GenAI conventions advise: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/"""

MAX_PLACES: Final = 1000
"""How many variants of deployments are told apart; calls to others are counted together, by how they ended."""
MAX_REASONS: Final = 200
_NO_LIMIT: Final = 10 * MAX_PLACES
"""For what is bounded by its places."""

_STATUSES: Final = {
    number: name.removeprefix("REQUEST_STATUS_").lower() for name, number in request_pb2.RequestStatus.items()
}
_KINDS: Final = {
    number: name.removeprefix("DEPLOYMENT_KIND_").lower() for name, number in deployment_pb2.DeploymentKind.items()
}
_KINDS[deployment_pb2.DEPLOYMENT_KIND_UNSPECIFIED] = "completion"  # written before there were others
_EVALUATIONS: Final = {
    decision_pb2.EVALUATION_MATCHED: "matched",
    decision_pb2.EVALUATION_DEFAULT_MATCHED: "default_matched",
}
_REASON: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_OPERATION: Final = "chat"
_PLACE: Final = ("project", "deployment", "variant", "kind")
_GEN_AI: Final = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")


KindOf: TypeAlias = Callable[[str, str], ProviderKind | None]
"""Of a project's uid and a provider's slug; None if it is not known."""


def _unknown(_project: str, _slug: str) -> ProviderKind | None:
    return None


class RequestMetrics:
    """Moves the instruments for each RequestServed. Costs about 9 µs an event with one attempt."""

    def __init__(self, measured: Metrics, kind_of: KindOf = _unknown) -> None:
        self._kind_of = kind_of
        self._requests = measured.counter(
            "turnout_requests", "Calls that ended, by how they ended.", (*_PLACE, "status"), limit=_NO_LIMIT
        )
        self._decisions = measured.counter(
            "turnout_decisions",
            "Calls by assigned variant, and by what assigned it: a rule (matched) or weights (default_matched).",
            (*_PLACE, "evaluation"),
            limit=_NO_LIMIT,
        )
        self._errors = measured.counter(
            "turnout_request_errors", "Calls that did not end well, by reason.", (*_PLACE, "reason"), limit=4000
        )
        self._durations = measured.histogram(
            "turnout_request_duration_seconds",
            "How long calls took; lost ones are left out.",
            _PLACE,
            limit=_NO_LIMIT,
            bounds=LATENCY_BOUNDS_SECONDS,
        )
        self._first_tokens = measured.histogram(
            "turnout_request_time_to_first_token_seconds",
            "How long streamed answers took to begin.",
            _PLACE,
            limit=_NO_LIMIT,
            bounds=LATENCY_BOUNDS_SECONDS,
        )
        self._tokens = measured.counter(
            "turnout_tokens", "Tokens that providers counted.", (*_PLACE, "type"), limit=_NO_LIMIT
        )
        self._cost = measured.counter(
            "turnout_cost_usd", "Cost of calls whose price is known, in US dollars.", _PLACE, limit=_NO_LIMIT
        )
        self._unknown_cost = measured.counter(
            "turnout_unknown_cost_requests", "Calls that used tokens of unknown price.", _PLACE, limit=_NO_LIMIT
        )
        self._attempts = measured.counter(
            "turnout_attempts", "Attempts at providers; `ok`, or why not.", ("provider", "model", "outcome")
        )
        self._operations = measured.histogram(
            "gen_ai_client_operation_duration_seconds",
            "How long calls to providers took.",
            (*_GEN_AI, "error_type"),
            bounds=GEN_AI_SECONDS,
        )
        self._usage = measured.histogram(
            "gen_ai_client_token_usage",
            "Tokens of an answered call.",
            (*_GEN_AI, "gen_ai_token_type"),
            bounds=GEN_AI_TOKENS,
        )
        self._per_token = measured.histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Time between the tokens of streamed answers, after the first.",
            _GEN_AI,
            bounds=GEN_AI_SECONDS_PER_TOKEN,
        )
        self._unreadable = measured.counter("turnout_unreadable_events", "Events that metrics could not read.").series()
        self._places: set[tuple[str, str, str, str]] = set()
        self._reasons: set[str] = set()

    def observe(self, payload: bytes) -> None:
        """Count one event, given as it was written."""
        try:
            event = request_pb2.RequestServed.FromString(payload)
        except DecodeError:
            self._unreadable.value += 1
            return
        if event.source == execution_pb2.SOURCE_SIMULATOR:
            # It served nobody.
            return
        place = self._place_of(event)
        # Of a call that was refused the evaluation is known too, but nothing was assigned.
        evaluation = _EVALUATIONS.get(event.decision.evaluation)
        if evaluation is not None and event.decision.variant_slug:
            self._decisions.series(*place, evaluation).value += 1
        self._requests.series(*place, _STATUSES.get(event.status, OTHER)).value += 1
        if event.status != request_pb2.REQUEST_STATUS_OK:
            reason = event.reason or _STATUSES.get(event.status, OTHER).upper()
            self._errors.series(*place, self._bounded(reason)).value += 1
        if event.status != request_pb2.REQUEST_STATUS_LOST:
            self._durations.series(*place).observe(event.latency_us / 1e6)
        if event.HasField("time_to_first_token_us"):
            self._first_tokens.series(*place).observe(event.time_to_first_token_us / 1e6)
        if event.HasField("cost_usd_micros"):
            self._cost.series(*place).value += event.cost_usd_micros / 1e6
        if event.HasField("usage"):
            self._count_usage(event, event.usage, place)
        for attempt in event.attempts:
            self._count_attempt(event.project, attempt)

    def _place_of(self, event: request_pb2.RequestServed) -> tuple[str, str, str, str]:
        kind = _KINDS.get(event.kind, OTHER)
        place = (event.project_slug, event.deployment_slug, event.decision.variant_slug, kind)
        if place not in self._places:
            if len(self._places) >= MAX_PLACES:
                return (OTHER, OTHER, OTHER, kind)
            self._places.add(place)
        return place

    def _name(self, project: str, slug: str) -> str:
        """As spans have it."""
        return provider_name(self._kind_of(project, slug), slug)

    def _count_usage(self, event: request_pb2.RequestServed, usage: message_pb2.Usage, place: tuple[str, ...]) -> None:
        provider = self._name(event.project, event.provider)
        for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
            if count > 0:
                self._tokens.series(*place, kind).value += count
                self._usage.series(_OPERATION, provider, event.model, kind).observe(count)
        if event.HasField("time_to_first_token_us") and usage.output_tokens > 1:
            rest = max(0, event.latency_us - event.time_to_first_token_us) / 1e6
            self._per_token.series(_OPERATION, provider, event.model).observe(rest / (usage.output_tokens - 1))
        if (usage.input_tokens or usage.output_tokens) and not event.HasField("cost_usd_micros"):
            self._unknown_cost.series(*place).value += 1

    def _count_attempt(self, project: str, attempt: execution_pb2.Attempt) -> None:
        provider, model = attempt.provider, attempt.model
        reason = self._bounded(attempt.reason) if attempt.reason else ""
        self._attempts.series(provider, model, reason or "ok").value += 1
        if not asked_nobody(attempt.reason, attempt.http_status):
            name = self._name(project, provider)
            self._operations.series(_OPERATION, name, model, reason).observe(attempt.latency_us / 1e6)

    def _bounded(self, reason: str) -> str:
        """`reason` if it is one, and not one of too many."""
        if reason not in self._reasons:
            if _REASON.fullmatch(reason) is None or len(self._reasons) >= MAX_REASONS:
                return OTHER
            self._reasons.add(reason)
        return reason


class Catalog(Protocol):
    """What metrics want to know of the catalog."""

    @property
    def age_seconds(self) -> float:
        """Since the registry was last heard of."""
        ...

    @property
    def sequence(self) -> int:
        """How new the view is; 0 before the first."""
        ...

    def usable_view(self) -> View:
        """The newest view.

        :raises Unavailable: if there is none, or none new enough
        """
        ...


class Metering:
    """The metrics of this process if it has an address for them; else nothing, and no cost.

    :param address: `host:port` to be scraped at; empty: not at all
    :param workers: how many processes share the command line, and so the address
    :param instance: the id of this process
    """

    def __init__(self, address: str, *, workers: int, instance: str, services: Sequence[str]) -> None:
        self._address = address
        self._workers = workers
        self._labels = {"version": _version(), "services": ",".join(services), "service_instance_id": instance}
        self._served = ServedCalls()
        self._kind_of: KindOf = _unknown

    @property
    def interceptors(self) -> tuple[Interceptor, ...]:
        """What surrounds every rpc, outermost."""
        return (self._served,) if self._address else ()

    @asynccontextmanager
    async def module(self, runtime: Runtime) -> AsyncIterator[None]:
        """Measure and be scraped until the process ends; to be entered first.

        :raises CannotStart: if the address cannot be listened on
        """
        if not self._address:
            yield
            return
        # Late: a process that is not scraped need not load what writes the page.
        from kit.metrics.endpoint import endpoint

        measured = await runtime.shared(metrics)
        measured.add(self._served.counter)
        measured.read(self._read)
        # Late: the catalog is followed after this is entered.
        requests = RequestMetrics(measured, lambda project, slug: self._kind_of(project, slug))
        measured.on_event(request_pb2.RequestServed.DESCRIPTOR.full_name, requests.observe)
        lag = measured.histogram(
            "turnout_event_loop_lag_seconds", "How late the event loop wakes up.", bounds=BOUNDS_SECONDS
        ).series()
        async with (
            endpoint(measured, self._address, workers=self._workers),
            runtime.background("metrics: event loop lag", measure_lag(lag)),
        ):
            yield

    async def follow(self, runtime: Runtime, catalog: Catalog) -> None:
        """Show how old the catalog is, and call providers what it says they are."""

        def kind_of(project: str, slug: str) -> ProviderKind | None:
            try:
                provider = catalog.usable_view().provider_named(project, slug)
            except AppError:
                return None
            return None if provider is None else provider.kind

        self._kind_of = kind_of
        (await runtime.shared(metrics)).read(
            lambda: (
                Reading(
                    "turnout_catalog_age_seconds", "Time since the registry was last heard of.", catalog.age_seconds
                ),
                Reading("turnout_catalog_sequence", "The newest change that this process knows.", catalog.sequence),
            )
        )

    def _read(self) -> Sequence[Reading]:
        return (
            Reading("turnout_build_info", "What runs here; always 1.", 1, labels=self._labels),
            Reading("turnout_tasks", "What the event loop has under way.", len(asyncio.all_tasks())),
        )


def _version() -> str:
    try:
        return version("turnout")
    except PackageNotFoundError:
        # An image holds the code, not a distribution.
        return "unknown"
