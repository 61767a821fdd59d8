"""What Python can do: everything on that is on for ours, with no layer, no task and no failure in its way.

Callbacks on bare connections parse with httptools, check a key, choose and fill a template, append a call's start and
end, publish its two events to JetStream, trace one call in ten, and answer. It knows one deployment, one provider and
one good question by heart, and breaks at whatever goes wrong.

`python -m bench.lean --upstream 127.0.0.1:1234 --nats nats://… --otlp http://… --log FILE` prints one JSON line with
its address.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import random
import signal
import time
from collections import deque
from email.utils import formatdate
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, cast

import google_crc32c
import nats
import orjson
import uvloop
from httptools import HttpRequestParser, HttpResponseParser
from opentelemetry.trace import SpanKind

from bench.bare import score
from bench.surroundings import WEIGHTS
from kit.telemetry import Span, TraceContext, Tracing, current_span, otlp_exporter
from turnout.events.v1 import request_pb2
from turnout.executor.v1 import execution_pb2

_FLUSH_SECONDS: Final = 0.05
_LAST_SECONDS: Final = 5.0
_SAMPLED: Final = 0.1
_INBOX: Final = b"_INBOX.lean"
_STREAM: Final = "LEAN"
"""Not the one of Turnout's events: they are counted."""
_GEN_AI: Final = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "main",
    "gen_ai.request.model": "bench-model",
}


class _Call:
    """One question on its way."""

    __slots__ = ("asked", "began", "caller", "event", "place", "span", "system")

    caller: _Caller
    asked: dict[str, Any]
    system: str
    began: float
    place: TraceContext
    span: Span | None
    event: request_pb2.RequestServed


class _Caller(asyncio.Protocol):
    """Asks, one question after the other."""

    def __init__(self, lean: Lean) -> None:
        self._lean = lean
        self._parser = HttpRequestParser(self)
        self._key = self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"authorization":
            self._key = value[7:]

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        self._lean.ask(self, self._key, body)


class _Provider(asyncio.Protocol):
    """A connection to the upstream."""

    def __init__(self, lean: Lean) -> None:
        self._lean = lean
        self._parser = HttpResponseParser(self)
        self._call: _Call | None = None
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, call: _Call, data: bytes) -> None:
        self._call = call
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        call, self._call = self._call, None
        body, self._body = self._body, b""
        assert call is not None
        self._lean.free.append(self)
        self._lean.answer(call, body)


class _Broker(asyncio.Protocol):
    """NATS: takes events in bursts, and counts what it acknowledges."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._frames: list[bytes] = []
        self._missing: set[bytes] = set()
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        options = b'{"verbose":false,"headers":true,"no_responders":true,"lang":"python","version":"0","protocol":1}'
        self._transport.write(b"CONNECT %b\r\nSUB %b.* 1\r\n" % (options, _INBOX))

    def publish(self, subject: bytes, event_id: bytes, trace: bytes, payload: bytes) -> None:
        head = b"NATS/1.0\r\ntraceparent: %b\r\nNats-Msg-Id: %b\r\n\r\n" % (trace, event_id)
        sizes = b"%d %d" % (len(head), len(head) + len(payload))
        if not self._frames:
            self._loop.call_later(_FLUSH_SECONDS, self._flush)
        self._frames.append(b"HPUB %b %b.%b %b\r\n%b%b\r\n" % (subject, _INBOX, event_id, sizes, head, payload))
        self._missing.add(event_id)

    async def unacknowledged(self) -> int:
        """How many events JetStream has not acknowledged a while after the last."""

        async def all_are() -> None:
            while self._missing:
                await asyncio.sleep(0.01)

        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(all_are(), _LAST_SECONDS)
        return len(self._missing)

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        self._transport.write(b"".join(frames))

    def data_received(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\r\n")
        self._rest = lines.pop()
        rest = iter(lines)
        for line in rest:
            if line == b"PING":
                self._transport.write(b"PONG\r\n")
            elif line.startswith(b"MSG "):
                said = next(rest, None)
                if said is None:
                    self._rest = line + b"\r\n" + self._rest
                    return
                if b'"error"' in said:
                    raise SystemExit(f"JetStream takes no events: {said!r}")
                start = len(b"MSG .") + len(_INBOX)
                self._missing.remove(line[start : line.index(b" ", start)])


class Lean:
    """Answers chat completions by asking an upstream.

    :param upstream: `host:port`
    :param log: a file descriptor to append to
    """

    def __init__(self, upstream: str, log: int, broker: _Broker, tracing: Tracing) -> None:
        self._host, _, port = upstream.rpartition(":")
        self._port = int(port)
        self._log, self._broker, self._tracing = log, broker, tracing
        self._loop = asyncio.get_running_loop()
        self.free: deque[_Provider] = deque()
        self._keys: dict[bytes, bytes] = {}
        self.count, self._second, self._date = 0, 0, b""
        self._head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {upstream}\r\nContent-Type: application/json\r\n"
            "Authorization: Bearer sk-bench\r\nContent-Length: "
        ).encode()

    def ask(self, caller: _Caller, key: bytes, body: bytes) -> None:
        """What a caller asks for."""
        call = _Call()
        call.caller, call.began = caller, self._loop.time()
        self._check(key)
        call.asked = asked = orjson.loads(body)
        self.count += 1
        name = f"req_{time.time_ns():016x}{self.count:08x}"
        self._trace(call)
        variables: dict[str, str] = asked["input"]
        if not all(type(variables[needed]) is str for needed in ("country", "language")):
            raise SystemExit("the question breaks its contract")
        weight = max(WEIGHTS, key=lambda weight: score(name, weight))
        call.system = f"You are an expert on {variables['country']}. Answer questions in {variables['language']}."
        call.event = event = request_pb2.RequestServed(
            request_id=name,
            project="prj_1",
            project_slug="shop",
            deployment_slug="bench",
            status=request_pb2.REQUEST_STATUS_LOST,
            version="ver_1",
            source=execution_pb2.SOURCE_API,
            api_key="key_1",
            trace_id=call.place.trace_id,
            service_instance="ins_1",
            routing_key=name,
        )
        event.start_time.GetCurrentTime()
        event.decision.variant_slug = str(weight)
        event.decision.alias = "live"
        self._append(event.SerializeToString())
        messages = [{"role": "system", "content": call.system}, *asked["messages"]]
        sent = orjson.dumps({"model": "bench-model", "temperature": weight / 100, "messages": messages})
        data = b"%b%d\r\n\r\n%b" % (self._head, len(sent), sent)
        if self.free:
            self.free.popleft().send(call, data)
        else:
            self._loop.create_task(self._connect(call, data))

    def answer(self, call: _Call, body: bytes) -> None:
        """What the upstream has answered."""
        answered: dict[str, Any] = orjson.loads(body)
        event, usage = call.event, answered["usage"]
        answered["id"] = event.request_id
        event.status = request_pb2.REQUEST_STATUS_OK
        event.latency_us = int((self._loop.time() - call.began) * 1e6)
        event.provider, event.model, event.served_variant, event.cost_usd_micros = "main", "bench-model", "var_1", 7
        event.usage.input_tokens, event.usage.output_tokens = usage["prompt_tokens"], usage["completion_tokens"]
        event.attempts.add(provider="main", model="bench-model", http_status=200, latency_us=event.latency_us)
        served = event.SerializeToString()
        said = orjson.dumps((call.asked, call.system, answered))
        payload = request_pb2.RequestPayload(request_id=event.request_id, project="prj_1", count=1, data=said)
        spoken = payload.SerializeToString()
        self._append(served + spoken)
        name, trace = event.request_id.encode(), call.place.traceparent().encode()
        self._broker.publish(b"lean.RequestServed.shop", name, trace, served)
        self._broker.publish(b"lean.RequestPayload.shop", name + b"-0", trace, spoken)
        if call.span is not None:
            self._end(call.span)
        out = orjson.dumps(answered)
        call.caller.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: %b\r\n%bContent-Length: %d\r\n\r\n%b"
            % (name, self._date_line(), len(out), out)
        )

    async def _connect(self, call: _Call, data: bytes) -> None:
        _, provider = await self._loop.create_connection(lambda: _Provider(self), self._host, self._port)
        provider.send(call, data)

    def _check(self, key: bytes) -> None:
        _, name, rest = key.split(b"_", 2)
        digest = blake2b(rest.partition(b"_")[0], digest_size=32).digest()
        if self._keys.setdefault(name, digest) != digest:
            raise SystemExit("a wrong key")

    def _trace(self, call: _Call) -> None:
        """Five spans if it is sampled, as ours has."""
        place = self._tracing.begin(None)
        call.span = self._tracing.server_span("POST /v1/chat/completions", place, is_root=True)
        call.place = place

    def _end(self, span: Span) -> None:
        token = current_span.set(span)
        for name, kind in (("Run", SpanKind.SERVER), ("route", SpanKind.INTERNAL), ("send", SpanKind.PRODUCER)):
            self._tracing.span(name, kind, {"turnout.project": "shop", "turnout.deployment": "bench"}).end()
        with self._tracing.span("chat bench-model", SpanKind.CLIENT, _GEN_AI) as chat:
            chat.set_attributes({"http.response.status_code": 200, "gen_ai.usage.input_tokens": 24})
        current_span.reset(token)
        span.set_attributes({"http.request.method": "POST", "http.response.status_code": 200, "url.scheme": "http"})
        span.end()

    def _append(self, record: bytes) -> None:
        size, checksum = len(record).to_bytes(4, "little"), google_crc32c.value(record).to_bytes(4, "little")
        os.write(self._log, size + checksum + record)

    def _date_line(self) -> bytes:
        second = int(time.time())
        if second != self._second:
            self._second, self._date = second, f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._date


async def serve(options: argparse.Namespace) -> None:
    """Until it is terminated."""
    random.seed()
    descriptor = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    client = await nats.connect(options.nats)
    await client.jetstream().add_stream(name=_STREAM, subjects=["lean.>"], duplicate_window=120)
    await client.close()
    host, _, port = options.nats.rpartition("/")[2].rpartition(":")
    _, broker = await loop.create_connection(lambda: _Broker(loop), host, int(port))
    exporter = otlp_exporter(options.otlp, "")
    tracing = Tracing(sample_ratio=_SAMPLED, resource={"service.name": "lean"}, exporter=exporter)
    lean = Lean(options.upstream, descriptor, broker, tracing)
    server = await loop.create_server(lambda: _Caller(lean), "127.0.0.1", options.port)
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(json.dumps({"address": address, "pid": os.getpid()}), flush=True)
    await stopped.wait()
    server.close()
    unacknowledged = await broker.unacknowledged()
    print(json.dumps({"calls": lean.count, "unacknowledged events": unacknowledged}), flush=True)
    tracing.shutdown()


def main() -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m bench.lean", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--upstream", required=True, help="host:port of what is asked")
    parser.add_argument("--nats", required=True, help="where events go")
    parser.add_argument("--otlp", required=True, help="where spans go")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path, required=True, help="what is appended to")
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
