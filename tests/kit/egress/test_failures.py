"""Bad servers: each way to fail has its reason, and none of them tells what was sent."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from kit.egress import Egress, EgressPolicy, Timeouts
from kit.errors import AppError, Unavailable

LOOPBACK = EgressPolicy(allow_private=True)
GENEROUS = Timeouts(total_seconds=20, connect_seconds=20, first_byte_seconds=20)
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"
SECRET = "sk-live-1"

Script = Callable[..., AbstractAsyncContextManager[int]]


async def failure_of(
    script: Script, *parts: bytes, ending: str = "close", timeout: Timeouts = GENEROUS, limit: int = 1 << 20
) -> Unavailable:
    """How a call fails whose answer is scripted; parts after the first are sent once its headers have been read."""
    proceed = asyncio.Event()

    async def call(url: str) -> None:
        async with egress.stream(
            "POST",
            url,
            headers={"Authorization": SECRET},
            body=SECRET.encode(),
            timeout=timeout,
            max_response_bytes=limit,
        ) as answer:
            proceed.set()
            await answer.read()

    async with script(*parts, ending=ending, proceed=proceed) as port, Egress(LOOPBACK) as egress:
        origin = f"http://127.0.0.1:{port}"
        with pytest.raises(Unavailable) as failure:
            await call(f"{origin}/?key={SECRET}")
    assert failure.value.metadata["origin"] == origin
    assert SECRET not in shown(failure.value)
    assert failure.value.__context__ is None
    return failure.value


def shown(error: BaseException) -> str:
    """What a log could hold of a failure, its hidden context included."""
    seen = f"{error!r} {error} {error.args} {vars(error)}"
    return seen + (shown(error.__context__) if error.__context__ else "")


@pytest.mark.parametrize(
    ("parts", "ending"),
    [
        ([b""], "close"),
        ([b""], "reset"),
        ([HEAD + b"Content-"], "close"),
        ([HEAD + b"Content-Length: 9\r\n\r\nabc"], "close"),
        ([HEAD + b"Content-Length: 9\r\n\r\nabc", b"d"], "reset"),
        ([CHUNKED], "close"),
        ([CHUNKED, b"5\r\nab"], "reset"),
    ],
    ids=["no answer", "reset", "half headers", "half body", "half body reset", "no last chunk", "half chunk reset"],
)
async def test_a_connection_that_breaks_off_is_a_failed_connection(
    script: Script, parts: list[bytes], ending: str
) -> None:
    failure = await failure_of(script, *parts, ending=ending)

    assert (failure.reason, failure.metadata["cause"]) == ("EGRESS_CONNECTION_FAILED", "DISCONNECTED")


async def test_a_closed_port_is_a_failed_connection() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with Egress(LOOPBACK) as egress:
            with pytest.raises(Unavailable) as failure:
                await egress.request(
                    "GET",
                    f"http://127.0.0.1:{bound.getsockname()[1]}/?key={SECRET}",
                    headers={},
                    timeout=GENEROUS,
                    max_response_bytes=1,
                )

    assert failure.value.reason == "EGRESS_CONNECTION_FAILED"
    assert failure.value.metadata["cause"] == "ECONNREFUSED"
    assert SECRET not in shown(failure.value)


@pytest.mark.parametrize(
    ("parts", "ending"),
    [
        ([SECRET.encode() + b"\r\n\r\n"], "close"),
        ([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20], "close"),
        ([HEAD + b"Content-Length: x\r\n\r\nabc"], "close"),
        ([HEAD + b"X: " + b"a" * 9000 + b"\r\n\r\n"], "close"),
        ([HEAD + b"a: b\r\n" * 200 + b"\r\n"], "close"),
        ([HEAD + b"Content-Encoding: br\r\nContent-Length: 3\r\n\r\nabc"], "close"),
        ([HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"], "close"),
        ([HEAD + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\n", b"abc"], "close"),
        ([CHUNKED + b"zz\r\n"], "close"),
        ([CHUNKED, b"zz\r\n"], "close"),
        ([b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc"], "hold"),
    ],
    ids=[
        "text",
        "tls",
        "length",
        "long header",
        "many headers",
        "br",
        "gzip",
        "late gzip",
        "chunk",
        "late chunk",
        "upgrade",
    ],
)
async def test_what_is_not_http_is_malformed(script: Script, parts: list[bytes], ending: str) -> None:
    assert (await failure_of(script, *parts, ending=ending)).reason == "EGRESS_MALFORMED_RESPONSE"


async def test_a_malformed_chunk_ends_the_body_at_once(script: Script) -> None:
    failure = await asyncio.wait_for(failure_of(script, CHUNKED, b"zz\r\n", ending="hold"), 5)

    assert failure.reason == "EGRESS_MALFORMED_RESPONSE"


@pytest.mark.parametrize(
    ("parts", "timeout", "phase"),
    [
        ([b""], Timeouts(5, 5, 0.05), "first_byte"),
        ([HEAD], Timeouts(5, 5, 0.05), "first_byte"),
        ([CHUNKED], Timeouts(5, 5, 0.5), "read"),
        ([CHUNKED], Timeouts(5, 5, 5, idle_seconds=0.05), "read"),
        ([CHUNKED, b"2\r\nfg\r\n"], Timeouts(5, 5, 5, idle_seconds=0.2), "read"),
        ([b""], Timeouts(0.05, 5, 5), "total"),
        ([CHUNKED], Timeouts(0.2, 5, 5), "total"),
    ],
)
async def test_a_stalled_answer_is_a_timeout_that_says_in_which_phase(
    script: Script, parts: list[bytes], timeout: Timeouts, phase: str
) -> None:
    failure = await failure_of(script, *parts, ending="hold", timeout=timeout)

    assert (failure.reason, failure.metadata["phase"]) == ("EGRESS_TIMEOUT", phase)


async def test_an_answer_one_byte_over_the_limit_is_too_large(script: Script) -> None:
    failure = await failure_of(script, HEAD + b"Content-Length: 5\r\n\r\nabcde", limit=4)

    assert (failure.reason, failure.metadata["limit_bytes"]) == ("EGRESS_RESPONSE_TOO_LARGE", "4")


async def test_a_decompression_bomb_is_too_large(script: Script) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    head = HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)

    assert (await failure_of(script, head + bomb)).reason == "EGRESS_RESPONSE_TOO_LARGE"


async def test_a_refused_address_and_an_invalid_header_tell_nothing_either() -> None:
    async with Egress(LOOPBACK) as egress:
        for url, header in (
            (f"http://169.254.169.254/?key={SECRET}", SECRET),
            (f"http://user:{SECRET}@127.0.0.1/", SECRET),
            (f"http://127.0.0.1:1/?key={SECRET}", f"{SECRET}\n"),
        ):
            with pytest.raises(AppError) as failure:
                await egress.request(
                    "GET", url, headers={"Authorization": header}, timeout=GENEROUS, max_response_bytes=1
                )
            assert SECRET not in shown(failure.value)
