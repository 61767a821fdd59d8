"""A provider's credential is nowhere but in the registry's safe and at the provider, whatever a call comes to."""

from __future__ import annotations

import base64
import json
import urllib.parse
import urllib.request
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import grpc
import nats as nats_client
import pytest
from google.protobuf.duration_pb2 import Duration
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation
from tests.system.clients import Clients, eventually, tenant
from tests.system.load import settled
from tests.system.processes import faulty, installed
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CREDENTIAL = "sk-planted-" + "5up3r" * 6
MARK = "marked-words-of-a-caller"
"""Said in every call: what finds this would find the credential."""
KINDS = {"openai": ("OPENAI_COMPATIBLE", "/v1"), "anthropic": ("ANTHROPIC", ""), "ollama": ("OLLAMA", "")}
FAULTS = ("ok", "echo-key", "echo-moved", "echo-type", "stall", "reset-head", "not-json", "error-late", "broken-late")


@dataclass
class Receiver(trace_service_pb2_grpc.TraceServiceServicer):
    """An OTLP collector that keeps what it gets, as it came."""

    received: list[bytes] = field(default_factory=list)

    async def Export(self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any) -> Any:
        self.received.append(request.SerializeToString())
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    kept, server = Receiver(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)  # type: ignore[no-untyped-call]  # untyped
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield kept, f"http://127.0.0.1:{port}"
    await server.stop(0)


def _forms(text: str) -> list[bytes]:
    """A text as it may be written: plainly, quoted, in hexadecimal, and in base64 at each of the three offsets."""
    raw = text.encode()
    coded = [base64.b64encode(b"x" * offset + raw)[4 if offset else 0 :][:-4] for offset in range(3)]
    return [raw, urllib.parse.quote(text).encode(), raw.hex().encode(), *coded]


def _has(data: bytes, text: str) -> bool:
    return any(form in data for form in _forms(text))


async def test_a_credential_is_nowhere_but_at_its_provider(
    receiver: tuple[Receiver, str], open_folder: Path, postgres: Postgres
) -> None:
    kept, endpoint = receiver
    folder = open_folder / f"secrets-{uuid.uuid4().hex[:8]}"
    extra = {"TURNOUT_OTLP_ENDPOINT": endpoint, "TURNOUT_TRACE_SAMPLE_RATIO": "1"}
    with (
        Nats(folder / "nats") as nats,
        faulty(folder / "faulty") as address,
        installed(folder, postgres, nats, "split", extra=extra) as installation,
    ):
        listener = await nats_client.connect(nats.url)
        events: list[bytes] = []

        async def keep(message: Any) -> None:
            events.append(message.subject.encode() + repr(message.headers).encode() + message.data)

        await listener.subscribe(">", cb=keep)
        async with tenant(installation) as shop:
            said = await _calls(shop, installation, address)
            await settled(shop, nats, 2 * len(FAULTS) * len(KINDS) + 1)
            logs = [log.SerializeToString() for log in await shop.all_logs()]

            async def exported() -> None:
                assert any(b"RunStream" in each for each in kept.received)

            await eventually(exported, seconds=30)
        await listener.close()
        with urllib.request.urlopen(f"{address}/stats", timeout=5) as answer:  # blocking: nothing else runs
            asked = json.load(answer)["credentials"]
        assert asked == {CREDENTIAL: asked[CREDENTIAL]}, "every call had it"
        tables = await _tables(postgres.url(installation._database))
        # Processes write what is left as they end.
        for process in installation.processes:
            process.stop()
        nats.stop()
        found = {
            "answers and errors": said,
            "spans": b"".join(kept.received),
            "events": b"".join(events),
            "logs of calls": b"".join(logs),
            **tables,
            **{str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()},
        }

    places = {name for name, data in found.items() if _has(data, CREDENTIAL)}
    assert places == set()
    marked = {name for name, data in found.items() if _has(data, MARK)}
    print(f"{len(found)} places looked at, {len(marked)} of them hold what callers said: {sorted(marked)}")
    assert {"answers and errors", "events"} <= marked
    assert any("spool" in name for name in marked)
    assert any(name.startswith("analytics.") for name in marked)
    assert any("catalog/copy" in name for name in found)
    assert any(name.startswith("registry.") and "provider" in name for name in found)


async def _calls(shop: Clients, installation: Installation, address: str) -> bytes:
    """Everything that callers are told: whole and in pieces, of each contract, however it ends."""
    said: list[bytes] = []
    for contract, (kind, path) in KINDS.items():
        await shop.create_provider(contract, address + path, CREDENTIAL, kind)
        for fault in FAULTS:
            name, limit = f"{contract}-{fault}", Duration(nanos=300_000_000)
            await shop.create_deployment(name, contract, fault, max_retries=1, attempt_timeout=limit)
            request = execution_service_pb2.RunRequest(deployment=name)
            request.messages.add(role=message_pb2.ROLE_USER, content=f"{MARK} call-{name}")
            said += await _told(shop.executions.Run(request, metadata=shop.metadata(), timeout=5))
            streamed = execution_service_pb2.RunStreamRequest(run=request)
            said += await _told_in_pieces(shop.executions.RunStream(streamed, metadata=shop.metadata(), timeout=5))
            config = execution_service_pb2.GetConfigRequest(run=request)
            said += await _told(shop.executions.GetConfig(config, metadata=shop.metadata(), timeout=5))
    body = {"model": "turnout/deployment/openai-echo-key", "messages": [{"role": "user", "content": MARK}]}
    async with aiohttp.ClientSession() as session:
        url, headers = (
            f"http://{installation.http_address}/v1/chat/completions",
            {"authorization": f"Bearer {shop.key}"},
        )
        async with session.post(url, json=body, headers=headers) as answer:
            assert answer.status >= 400
            said.append(repr(answer.headers).encode() + await answer.read())
    return b"\n".join(said)


async def _told(call: Any) -> list[bytes]:
    try:
        return [(await call).SerializeToString()]
    except grpc.aio.AioRpcError as failure:
        return [_words(failure)]


async def _told_in_pieces(call: Any) -> list[bytes]:
    said: list[bytes] = []
    try:
        async for event in call:
            said.append(event.SerializeToString())  # noqa: PERF401  # what came before a failure was said
    except grpc.aio.AioRpcError as failure:
        said.append(_words(failure))
    return said


def _words(failure: grpc.aio.AioRpcError) -> bytes:
    details = b"".join(
        value if isinstance(value, bytes) else value.encode() for _, value in failure.trailing_metadata() or ()
    )
    return f"{failure.code()} {failure.details()} {failure.debug_error_string()}".encode() + details


async def _tables(url: str) -> dict[str, bytes]:
    """Every table of the database, as text."""
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        names = await connection.fetch(
            "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        dumped = {}
        for name in (row["name"] for row in names):
            rows = await connection.fetch(f"SELECT t::text AS row FROM {name} t")
            dumped[name] = "\n".join(row["row"] for row in rows).encode()
        return dumped
    finally:
        await connection.close()
