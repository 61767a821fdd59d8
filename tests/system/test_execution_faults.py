"""Providers fail in every way at once: whoever could have an answer gets one, and nothing is lost or left behind."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import psutil
import pytest
from google.protobuf.duration_pb2 import Duration

from kit import status
from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation
from tests.system.clients import Clients, eventually, tenant
from tests.system.faulty import GOOD
from tests.system.faulty_words import ANSWER, PIECES
from tests.system.load import Books, Outcome, Seen, assert_counted_once, settled
from tests.system.processes import faulty, installed
from turnout.chat.v1 import message_pb2
from turnout.executor.v1 import execution_service_pb2
from turnout.registry.v1 import deployment_pb2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CALLS = 1000
CONTRACTS = {"openai": ("OPENAI_COMPATIBLE", "/v1"), "anthropic": ("ANTHROPIC", ""), "ollama": ("OLLAMA", "")}
BROKEN = ["reset-head", "close-head", "reset-body", "half-body", "stall", "slow", "not-json", "html", "huge"]
REPEATABLE = [*BROKEN, *(f"status-{status}" for status in (408, 429, 500, 502, 503, 504)), "after-429"]
MIXED = "+".join(REPEATABLE) + "@0.3"
ELSEWHERE = "+".join(reversed(REPEATABLE)) + "@0.3"
"""The same, drawn anew: what failed once need not fail there."""
EARLY = "+".join((*REPEATABLE, "broken-early", "stalled-early")) + "@0.3"
LATE_FAULTS = [
    "broken-late", "reset-late", "half-event-late", "stalled-late", "garbage-late", "error-late", "ended-late",
]  # fmt: skip
LATE = "+".join(LATE_FAULTS)
ATTEMPT = Duration(seconds=3)
DEADLINE_SECONDS = 60.0
NO_BREAKERS = {"TURNOUT_EXECUTOR_BREAKER_MIN_FAILURES": "0"}
"""Where all calls are to fail, or the upstream's log is to say all that happened."""


@dataclass(frozen=True)
class Upstreams:
    """Two providers that fail."""

    first: str
    second: str

    async def told(self, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """What both say under a path."""
        async with aiohttp.ClientSession() as session:

            async def ask(address: str) -> dict[str, Any]:
                async with session.get(address + path) as answer:
                    told: dict[str, Any] = await answer.json(content_type=None)
                return told

            return await ask(self.first), await ask(self.second)


@pytest.fixture(scope="module")
def upstreams(open_folder: Path) -> Iterator[Upstreams]:
    with (
        faulty(open_folder / "faulty-first", "--latency-ms", "20") as first,
        faulty(open_folder / "faulty-second", "--latency-ms", "20") as second,
    ):
        yield Upstreams(first, second)


@pytest.fixture(scope="module")
def nats(open_folder: Path) -> Iterator[Nats]:
    """Its own: installations on one NATS would take each other's events."""
    with Nats(open_folder / f"nats-{uuid.uuid4().hex[:8]}") as server:
        yield server


@pytest.fixture(scope="module")
def running(open_folder: Path, postgres: Postgres, nats: Nats) -> Iterator[Installation]:
    """One process each, without breakers."""
    with installed(open_folder, postgres, nats, "split", scraped="executor", extra=NO_BREAKERS) as installation:
        yield installation


@asynccontextmanager
async def _shop(running: Installation, upstreams: Upstreams) -> AsyncIterator[Clients]:
    async with tenant(running) as shop:
        for contract, (kind, path) in CONTRACTS.items():
            for name, address in (("first", upstreams.first), ("second", upstreams.second)):
                await shop.create_provider(f"{contract}-{name}", address + path, "sk-any", kind)
        yield shop


@pytest.fixture
async def shop(running: Installation, upstreams: Upstreams) -> AsyncIterator[Clients]:
    async with _shop(running, upstreams) as clients:
        yield clients


async def _deploy(
    shop: Clients, name: str, model: str, *, retries: int = 0, fallback_retries: int = -1, elsewhere: str = ELSEWHERE
) -> list[str]:
    """A deployment for each contract; with a fallback to the next contract's second provider, if that may be asked."""
    names, contracts = [], list(CONTRACTS)
    for index, contract in enumerate(contracts):
        fallbacks = []
        if fallback_retries >= 0:
            there = f"{contracts[(index + 1) % len(contracts)]}-second"
            fallbacks = [
                deployment_pb2.Fallback(
                    provider=there,
                    model=elsewhere,
                    max_retries=fallback_retries,
                    attempt_timeout=ATTEMPT,
                )
            ]
        await shop.create_deployment(
            f"{name}-{contract}",
            f"{contract}-first",
            model,
            max_retries=retries,
            attempt_timeout=ATTEMPT,
            fallbacks=fallbacks,
        )
        names.append(f"{name}-{contract}")
    return names


async def _burst(shop: Clients, deployments: list[str], calls: int) -> dict[str, Seen]:
    """So many calls at once, each to one of the deployments in turn."""
    books = [Books(shop, each, timeout_seconds=DEADLINE_SECONDS) for each in deployments]
    await asyncio.gather(*(books[number % len(books)].call() for number in range(calls)))
    return {name: seen for each in books for name, seen in each.calls.items()}


def _ended_well(history: list[str]) -> bool:
    return bool(history) and history[-1] in GOOD


@pytest.mark.parametrize(
    ("retries", "fallback_retries"), [(0, -1), (3, -1), (1, 2)], ids=["once", "with-retries", "with-a-fallback"]
)
async def test_no_caller_sees_an_error_that_a_retry_or_a_fallback_could_have_avoided(
    retries: int, fallback_retries: int, running: Installation, upstreams: Upstreams, shop: Clients, nats: Nats
) -> None:
    deployments = await _deploy(shop, "agent", MIXED, retries=retries, fallback_retries=fallback_retries)

    async with _shop(running, upstreams) as web:
        await _deploy(web, "web", MIXED, retries=retries, fallback_retries=fallback_retries)
        await eventually(lambda: web.run("web-ollama", mock_response="ready"))
        calls, answers = await asyncio.gather(
            _burst(shop, deployments, CALLS - 100), _over_http(running.http_address, web.key, "web-openai", 100)
        )
        await settled(web, nats, len(answers))
        total = (await web.totals()).total
        assert (total.requests, total.ok) == (100, sum(code == 200 for code in answers.values()))
    first, second = await upstreams.told("/log")

    wrong = []
    seen: dict[str, Seen | int] = {**calls, **answers}
    for name, outcome in seen.items():
        there, elsewhere = first.get(f"call-{name}", []), second.get(f"call-{name}", [])
        if outcome == 200 or (isinstance(outcome, Seen) and outcome.outcome is Outcome.OK):
            if not _ended_well(elsewhere or there):
                wrong.append((name, outcome, there, elsewhere))
        elif len(there) <= retries or len(elsewhere) <= fallback_retries or _ended_well(elsewhere or there):
            wrong.append((name, outcome, there, elsewhere))
    outcomes = Counter(each.reason if isinstance(each, Seen) else each for each in seen.values())
    print(f"{outcomes}; {len(wrong)} wrong; requests {sum(map(len, first.values()))}, {sum(map(len, second.values()))}")
    assert wrong == []
    assert set(outcomes) <= {"", 200, "PROVIDER_FAILED", "PROVIDER_RATE_LIMITED", 429, 502, 503}
    await settled(shop, nats, len(calls))
    await assert_counted_once(shop, calls)


@pytest.fixture
def cautious(open_folder: Path, postgres: Postgres) -> Iterator[Installation]:
    """All in one process, with breakers as they are by default."""
    folder = open_folder / f"cautious-{uuid.uuid4().hex[:8]}"
    with Nats(folder / "nats") as broker, installed(folder, postgres, broker, "all") as installation:
        yield installation


async def test_a_model_that_fails_one_call_in_ten_is_not_ejected_by_a_burst_of_them(
    cautious: Installation, upstreams: Upstreams
) -> None:
    async with _shop(cautious, upstreams) as shop:
        # A tenth fails at once; the others take half a second.
        calls = await _burst(shop, await _deploy(shop, "agent", "slow+" * 9 + "status-503"), 600)

    first, _ = await upstreams.told("/log")
    assert [name for name in calls if f"call-{name}" not in first] == []


async def _over_http(address: str, key: str, deployment: str, calls: int) -> dict[str, int]:
    """The statuses of so many calls at once, by their names."""
    answers: dict[str, int] = {}

    async def call(session: aiohttp.ClientSession, name: str) -> None:
        body = {"model": f"turnout/deployment/{deployment}", "messages": [{"role": "user", "content": f"call-{name}"}]}
        url, headers = f"http://{address}/v1/chat/completions", {"authorization": f"Bearer {key}"}
        async with session.post(url, json=body, headers=headers) as answer:
            await answer.read()
            answers[name] = answer.status

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(call(session, f"web{uuid.uuid4().hex[:8]}-{number}") for number in range(calls)))
    return answers


@dataclass
class Heard:
    """A stream as its caller got it."""

    pieces: list[str]
    ended: int = 0
    reason: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


async def _listen(shop: Clients, deployment: str, name: str) -> Heard:
    run = execution_service_pb2.RunRequest(deployment=deployment)
    run.messages.add(role=message_pb2.ROLE_USER, content=name)
    heard = Heard([])
    call = shop.executions.RunStream(
        execution_service_pb2.RunStreamRequest(run=run), metadata=shop.metadata(), timeout=DEADLINE_SECONDS
    )
    try:
        async for event in call:
            heard.ended += event.HasField("ended")
            if event.HasField("delta"):
                heard.pieces.append(event.delta.content)
    except grpc.aio.AioRpcError as failure:
        heard.reason = status.reason_of(failure)
    return heard


async def test_streams_that_fail_before_their_first_word_are_whole_all_the_same(
    upstreams: Upstreams, shop: Clients
) -> None:
    deployments = await _deploy(shop, "agent", EARLY, retries=4, fallback_retries=4)
    names = [f"call-{uuid.uuid4().hex[:8]}" for _ in range(200)]

    heard = await asyncio.gather(
        *(_listen(shop, deployments[number % len(deployments)], name) for number, name in enumerate(names))
    )

    first, second = await upstreams.told("/log")
    faults = Counter(each for name in names for each in first.get(name, []) + second.get(name, []))
    print(faults)
    assert {each.reason for each in heard} == {""}
    assert {(each.text, each.ended) for each in heard} == {(ANSWER, 1)}
    assert sum(count for fault, count in faults.items() if fault not in GOOD) >= 30


async def test_streams_that_fail_after_their_first_word_are_broken_and_nothing_is_said_twice(
    upstreams: Upstreams, shop: Clients, nats: Nats
) -> None:
    deployments = await _deploy(shop, "agent", LATE, retries=4, fallback_retries=4, elsewhere="ok")
    names = [f"call-{uuid.uuid4().hex[:8]}" for _ in range(200)]

    heard = await asyncio.gather(
        *(_listen(shop, deployments[number % len(deployments)], name) for number, name in enumerate(names))
    )

    first, second = await upstreams.told("/log")
    assert Counter((each.reason, each.ended) for each in heard) == {("STREAM_BROKEN", 0): 200}
    for name, each in zip(names, heard, strict=True):
        # What has not been read when a connection is reset is lost.
        said = len(each.pieces) if first[name] == ["reset-late"] else 2
        assert each.text == "".join(PIECES[:said]), name
    assert {len(first[name]) for name in names} == {1}
    assert not second.keys() & set(names)
    assert {fault for name in names for fault in first[name]} == set(LATE_FAULTS)
    await settled(shop, nats, 200)
    total = (await shop.totals()).total
    assert (total.requests, total.errors) == (200, 200)


async def test_a_prompt_that_does_not_fit_is_not_repeated_but_taken_elsewhere(
    upstreams: Upstreams, shop: Clients
) -> None:
    alone = await _deploy(shop, "alone", "context", retries=4)
    helped = await _deploy(shop, "helped", "context", retries=4, fallback_retries=0, elsewhere="ok")
    for deployment in alone:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await shop.run(deployment, f"call-whole-{deployment}")
        heard = await _listen(shop, deployment, f"call-pieces-{deployment}")
        assert status.reason_of(failure.value) == heard.reason == "PROVIDER_CONTEXT_LENGTH_EXCEEDED"
    for deployment in helped:
        answer = await shop.run(deployment, f"call-whole-{deployment}")
        assert (answer.message.content, answer.fallback_index) == (ANSWER, 1)
        assert (await _listen(shop, deployment, f"call-pieces-{deployment}")).text == ANSWER

    first, second = await upstreams.told("/log")
    calls = [f"call-{how}-{deployment}" for how in ("whole", "pieces") for deployment in alone + helped]
    assert {tuple(first[call]) for call in calls} == {("context",)}
    assert all(second.get(call, []) == (["ok"] if "helped" in call else []) for call in calls)


async def test_a_refusal_is_an_answer(upstreams: Upstreams, shop: Clients) -> None:
    deployments = await _deploy(shop, "agent", "refusal", retries=4)

    answers = [await shop.run(deployment, f"call-no-{deployment}") for deployment in deployments]

    # Ollama's contract has no word for it.
    refused, stopped = message_pb2.FINISH_REASON_CONTENT_FILTER, message_pb2.FINISH_REASON_STOP
    assert [answer.finish_reason for answer in answers] == [refused, refused, stopped]
    first, _ = await upstreams.told("/log")
    assert [first[f"call-no-{deployment}"] for deployment in deployments] == [["refusal"]] * 3


async def test_nothing_is_left_behind_when_everything_has_failed(
    running: Installation, upstreams: Upstreams, shop: Clients
) -> None:
    process = psutil.Process(running.process("executor").pid)
    whole = await _deploy(shop, "agent", MIXED, retries=1)
    streamed = await _deploy(shop, "stream", "+".join((*LATE_FAULTS, *REPEATABLE)) + "@0.5", retries=1)
    megabytes: list[float] = []

    async def connections() -> int:
        return sum(told["open"] for told in await upstreams.told("/stats"))

    async def quiet() -> None:
        # Kept connections are closed 30 s after their last use.
        assert await connections() == 0
        assert process.num_fds() <= before + 3
        # One task for each caller's connection at most, and some that come and go.
        assert await _tasks(running) <= tasks + 8

    before, tasks = process.num_fds() - await connections(), await _tasks(running)
    for _ in range(3):
        leaving = [asyncio.ensure_future(shop.run(whole[0], "call-leaves")) for _ in range(100)]
        await asyncio.gather(
            _burst(shop, whole, 500),
            *(_listen(shop, streamed[n % 3], f"call-{uuid.uuid4().hex[:8]}") for n in range(400)),
            _left(leaving),
        )
        megabytes.append(process.memory_info().rss / 1e6)
    at_once = process.num_fds(), await _tasks(running)
    print(f"{before} descriptors and {tasks} tasks before, {at_once} after, {[round(each) for each in megabytes]} MB")

    await eventually(quiet, seconds=90)
    assert megabytes[-1] - megabytes[0] < 30


async def _tasks(running: Installation) -> int:
    """What the executor's event loop has under way."""
    address = running.process("executor").environment["TURNOUT_METRICS_ADDRESS"]
    async with aiohttp.ClientSession() as session, session.get(f"http://{address}/metrics") as answer:
        [line] = [line for line in (await answer.text()).splitlines() if line.startswith("turnout_tasks ")]
    return int(float(line.split(" ")[1]))


async def _left(calls: Sequence[asyncio.Future[Any]]) -> None:
    """Callers who leave soon."""
    await asyncio.wait(calls, timeout=0.1)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)
