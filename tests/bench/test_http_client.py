from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Any

import pytest

from bench.answers import BadAnswer
from bench.http_client import request_of, run
from bench.jobs import Job
from bench.upstream import Behaviour


def job(address: str, **fields: Any) -> Job:
    return replace(Job(3, 0.2, pid=os.getpid(), address=address, body="{}"), **fields)


def test_a_request_is_what_the_job_says() -> None:
    said = Job(1, 1, address="127.0.0.1:80", path="/v1/x", headers={"authorization": "Bearer k"}, body='{"é":1}')

    head, _, body = request_of(said).partition(b"\r\n\r\n")

    assert head.split(b"\r\n")[0] == b"POST /v1/x HTTP/1.1"
    assert {b"authorization: Bearer k", b"host: 127.0.0.1:80", b"content-length: 8"} <= set(head.split(b"\r\n"))
    assert body == '{"é":1}'.encode()


async def test_every_call_is_counted_and_only_those_behind_the_warm_up_are_timed(served: Any) -> None:
    address, stats = await served(Behaviour())

    outcome = await run(job(address))

    assert outcome.all_calls == stats.calls == stats.statuses[200]
    assert 0 < len(outcome.latencies) < outcome.all_calls
    assert outcome.seconds >= 0.2
    assert outcome.cpu_seconds > 0
    assert outcome.rss_mb > 1


async def test_a_latency_is_that_of_the_answer(served: Any) -> None:
    address, _ = await served(Behaviour(latency_seconds=0.03))

    outcome = await run(job(address))

    assert 0.03 <= min(outcome.latencies) < 0.2


async def test_streams_are_timed_to_their_first_piece_and_read_to_their_end(served: Any) -> None:
    address, stats = await served(Behaviour(latency_seconds=0.01, chunks=10, chunk_interval_seconds=0.02))

    outcome = await run(
        job(address, concurrency=4, body='{"stream":true}', stream_pieces=10, stream_seconds=0.2, seconds=0.4)
    )

    assert outcome.all_calls == stats.calls
    # Those that began before all were at it are not timed.
    assert 0 < len(outcome.latencies) <= outcome.all_calls - 4
    assert min(outcome.latencies) >= 0.01
    assert min(outcome.latencies) < 0.1


@pytest.mark.parametrize("body", ["{}", '{"stream":true}'])
async def test_one_failed_call_of_many_fails_the_job(served: Any, body: str) -> None:
    address, _ = await served(Behaviour(fail_every=5))
    pieces = 100 if "stream" in body else 0

    with pytest.raises(BadAnswer, match=r"status 503.*asked to fail"):
        await run(job(address, body=body, stream_pieces=pieces, stream_seconds=0.05))


async def test_a_stream_with_a_piece_too_few_fails_the_job(served: Any) -> None:
    address, _ = await served(Behaviour(chunks=9))

    with pytest.raises(BadAnswer, match="9 pieces instead of 10"):
        await run(job(address, body='{"stream":true}', stream_pieces=10, stream_seconds=0.05))


async def test_a_connection_that_is_closed_before_its_answer_fails_the_job() -> None:
    async def hang_up(reading: asyncio.StreamReader, writing: asyncio.StreamWriter) -> None:
        await reading.readuntil(b"{}")
        writing.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
        writing.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        with pytest.raises(BadAnswer, match="closed before its answer was whole"):
            await run(job(f"127.0.0.1:{server.sockets[0].getsockname()[1]}"))
