"""All that the log knows of one request."""

from __future__ import annotations

from collections.abc import Iterator

from cli import decisions, output
from turnout.events.v1 import request_pb2 as pb
from turnout.executor.v1 import execution_pb2


def tell(request: pb.RequestServed) -> None:
    """Facts a line each, those that there are, and a table of attempts."""
    output.facts((name, value) for name, value in _facts(request) if value)
    if not request.attempts:
        return
    output.say("")
    output.table(
        ["attempt", "provider", "model", "outcome", "after", "latency"],
        [
            (
                place,
                each.provider,
                each.model,
                each.reason or "OK",
                output.milliseconds(each.start_offset_us),
                output.milliseconds(each.latency_us),
            )
            for place, each in enumerate(request.attempts, start=1)
        ],
        numbers=["attempt", "after", "latency"],
    )


def status(request: pb.RequestServed) -> str:
    """How it ended, and why."""
    word = pb.RequestStatus.Name(request.status).removeprefix("REQUEST_STATUS_")
    return f"{word} {request.reason}".strip()


def _facts(request: pb.RequestServed) -> Iterator[tuple[str, str]]:
    """Names with values; empty values are not known."""
    decision, usage = request.decision, request.usage
    yield "request", request.request_id
    yield "time", request.start_time.ToJsonString()
    alias = f":{decision.alias}" if decision.alias else ""
    yield "deployment", f"{request.deployment_slug or '–'}{alias}"
    yield "revision", f"{decision.revision_number} ({decision.revision})" if decision.revision else ""
    yield "status", status(request)
    yield "evaluation", decisions.evaluation(decision)
    yield "variant", f"{decision.variant_slug} ({decision.variant})" if decision.variant else "–"
    if decision.variant:
        yield "propensity", f"{decisions.share(decision.propensity)} of random keys with this context get it"
    if decision.evaluation:
        yield "sticks to", decisions.key(decision)
    yield from _caller(request)
    if request.served_variant not in ("", decision.variant):
        yield "served by", request.served_variant
    yield "model", f"{request.provider}/{request.model}" if request.provider else request.recommendation.model
    yield "version", request.version
    yield "latency", output.milliseconds(request.latency_us)
    if request.HasField("time_to_first_token_us"):
        yield "first token", output.milliseconds(request.time_to_first_token_us)
    if request.HasField("usage"):
        yield "tokens", f"{usage.input_tokens:,} read, {usage.output_tokens:,} written"
    if request.HasField("cost_usd_micros"):
        yield "cost", output.micros(request.cost_usd_micros)
    if request.HasField("recommendation"):
        cold = "; the user is unknown" if request.recommendation.cold_start else ""
        yield "items", f"{request.recommendation.item_count:,}{cold}"


def _caller(request: pb.RequestServed) -> Iterator[tuple[str, str]]:
    """Who called, and with what."""
    yield "routing key", request.routing_key
    yield "identity", request.identity
    yield "thread", request.thread
    yield "user", request.user
    yield "context", request.context_json
    yield "metadata", request.metadata_json
    yield "source", execution_pb2.Source.Name(request.source).removeprefix("SOURCE_").lower()
    yield "api key", request.api_key
    yield "trace", request.trace_id
    yield "caller trace", request.caller_trace_id
