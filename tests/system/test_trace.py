"""One trace, from an HTTP request to the row that it becomes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Mode
from tests.system.clients import Clients, eventually, tenant
from tests.system.processes import installed, upstream
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2

TRACE = "0af7651916cd43dd8448eb211c80319c"
STREAM_TRACE = "1af7651916cd43dd8448eb211c80319d"
ROOT = "b7ad6b7169203331"


@dataclass
class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP collector that keeps what it gets."""

    spans: list[Span] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    async def Export(self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any) -> Any:
        for resource in request.resource_spans:
            attributes = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += scope.spans
                self.services |= {attributes["service.name"] for span in scope.spans if span.trace_id.hex() == TRACE}
        return trace_service_pb2.ExportTraceServiceResponse()

    def of_trace(self) -> list[Span]:
        return [span for span in self.spans if span.trace_id.hex() == TRACE]


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    kept, server = Receiver(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)  # type: ignore[no-untyped-call]  # untyped
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield kept, f"http://127.0.0.1:{port}"
    await server.stop(0)


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Nats]:
    """Our own: on the shared one, analytics would first take the events of all tests before."""
    with Nats(tmp_path / "nats") as server:
        yield server


@pytest.mark.parametrize("mode", ["all", "split"])
async def test_one_trace_tells_of_the_request_each_attempt_the_event_and_its_ingestion(
    mode: Mode, receiver: tuple[Receiver, str], open_folder: Path, postgres: Postgres, nats: Nats
) -> None:
    kept, endpoint = receiver
    extra = {"TURNOUT_OTLP_ENDPOINT": endpoint, "TURNOUT_TRACE_SAMPLE_RATIO": "0"}
    with (
        installed(open_folder, postgres, nats, mode, extra=extra) as installation,
        # Every second call fails, so that there are two attempts.
        upstream(open_folder / f"failing-{mode}", "--fail-every", "2") as base_url,
    ):
        async with tenant(installation) as shop:
            await shop.create_provider("flaky", base_url)
            await shop.create_deployment("agent", "flaky", max_retries=2)
            await eventually(lambda: shop.run("agent"))
            body = {"model": "turnout/deployment/agent", "messages": [{"role": "user", "content": "hi"}]}
            async with aiohttp.ClientSession() as session:
                answer = await session.post(
                    f"http://{installation.http_address}/v1/chat/completions",
                    json=body,
                    headers={"authorization": f"Bearer {shop.key}", "traceparent": f"00-{TRACE}-{ROOT}-01"},
                )
                assert answer.status == 200

            async def exported() -> None:
                assert {"send", "process"} <= {
                    word for span in kept.of_trace() for word in span.name.split() if span.name.count(" ")
                }

            await eventually(exported, seconds=30)
            await _stream(installation.http_address, shop.key)
            await eventually(lambda: _streamed(kept), seconds=30)

    spans = kept.of_trace()
    [http] = _named(spans, "POST /v1/chat/completions")
    [run] = _named(spans, "turnout.executor.v1.ExecutionService/Run")
    attempts = _named(spans, "chat m")
    [sent] = _named(spans, "send turnout.events.v1.RequestServed")
    processed = [span for span in spans if span.name.endswith(" process")]
    assert http.parent_span_id.hex() == ROOT
    assert run.parent_span_id == http.span_id
    assert len(attempts) == 2
    assert {attempt.parent_span_id for attempt in attempts} == {run.span_id}
    assert [attempt.status.code for attempt in attempts] == [2, 0]
    assert sent.parent_span_id == run.span_id
    assert sent.span_id in {span.parent_span_id for span in processed}
    ingestion = next(span for span in processed if span.parent_span_id == sent.span_id)
    batch = next(span for span in kept.spans if span.span_id == ingestion.links[0].span_id)
    assert sent.span_id in {link.span_id for link in batch.links}
    if mode == "split":
        assert {"turnout-gateway", "turnout-executor", "turnout-analytics"} <= kept.services


async def _stream(address: str, key: str) -> None:
    """As before, in pieces and in another trace."""
    body = {"model": "turnout/deployment/agent", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    headers = {"authorization": f"Bearer {key}", "traceparent": f"00-{STREAM_TRACE}-{ROOT}-01"}
    async with aiohttp.ClientSession() as session:
        answer = await session.post(f"http://{address}/v1/chat/completions", json=body, headers=headers)
        assert (await answer.text()).endswith("data: [DONE]\n\n")


async def _streamed(kept: Receiver) -> None:
    spans = {span.name: span for span in kept.spans if span.trace_id.hex() == STREAM_TRACE}
    assert {"send turnout.events.v1.RequestServed", "chat m", "POST /v1/chat/completions"} <= set(spans)
    http, run = spans["POST /v1/chat/completions"], spans["turnout.executor.v1.ExecutionService/RunStream"]
    sent = spans["send turnout.events.v1.RequestServed"]
    assert (http.parent_span_id.hex(), run.parent_span_id) == (ROOT, http.span_id)
    assert (spans["chat m"].parent_span_id, sent.parent_span_id) == (run.span_id, run.span_id)
    processed = [span for span in kept.spans if span.name.endswith(" process")]
    assert sent.span_id in {span.parent_span_id for span in processed}


def _named(spans: Sequence[Span], name: str) -> list[Span]:
    return sorted((span for span in spans if span.name == name), key=lambda span: span.start_time_unix_nano)


async def test_an_unsampled_call_leaves_no_trace(
    receiver: tuple[Receiver, str], open_folder: Path, postgres: Postgres, nats: Nats, instant_llm: str
) -> None:
    kept, endpoint = receiver
    extra = {"TURNOUT_OTLP_ENDPOINT": endpoint, "TURNOUT_TRACE_SAMPLE_RATIO": "0"}
    with installed(open_folder, postgres, nats, "all", extra=extra) as installation:
        async with tenant(installation) as shop:
            await shop.create_provider("instant", instant_llm)
            await shop.create_deployment("agent", "instant")
            for _ in range(20):
                await shop.run("agent")

            async def counted() -> None:
                assert (await shop.totals()).total.requests == 20

            await eventually(counted)
            await _sampled(shop, "agent")

            async def exported() -> None:
                names = {span.name for span in kept.of_trace()}
                assert {"chat m", "send turnout.events.v1.RequestServed"} <= names
                assert any(name.endswith(" process") for name in names)

            # A span is exported after those that ended before it, so that others would be here by now.
            await eventually(exported, seconds=30)
    # What the process had left to export came before it ended.
    sampled = {span.span_id for span in kept.of_trace()}
    foreign = [span for span in kept.spans if span.trace_id.hex() != TRACE]
    # Ingestion's own root span belongs to all traces that it links to; here that is the one.
    assert [span.name for span in foreign if not {link.span_id for link in span.links} & sampled] == []


async def _sampled(shop: Clients, deployment: str) -> None:
    """One call whose caller samples it."""
    request = execution_service_pb2.RunRequest(deployment=deployment)
    request.messages.add(role=message_pb2.ROLE_USER, content="Hello")
    metadata = (*shop.metadata(), ("traceparent", f"00-{TRACE}-{ROOT}-01"))
    await shop.executions.Run(request, metadata=metadata, timeout=20)
