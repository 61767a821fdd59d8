"""Whole installations: real processes, real Postgres, NATS and LLM, called with generated clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from recommenders.artifact import write_artifact
from recommenders.interactions import read_interactions
from recommenders.model import Algorithm
from recommenders.training import train
from stack.nats import Nats
from stack.postgres import Postgres
from stack.services import Installation
from tests.system.clients import Clients, tenant
from tests.system.node import NodeSdk
from tests.system.processes import installed, upstream


@pytest.fixture(scope="session")
def instant_llm(open_folder: Path) -> Iterator[str]:
    """Base URL of an instant upstream."""
    with upstream(open_folder / "upstream") as base_url:
        yield base_url


@pytest.fixture(scope="session")
def slow_llm(open_folder: Path) -> Iterator[str]:
    """An upstream that answers after 20 s."""
    with upstream(open_folder / "slow", "--latency-ms", "20000") as base_url:
        yield base_url


@pytest.fixture(scope="session")
def refusing_llm(open_folder: Path) -> Iterator[str]:
    """An upstream that knows no credential."""
    with upstream(open_folder / "refusing", "--status", "401") as base_url:
        yield base_url


@pytest.fixture
async def garbage_llm() -> AsyncIterator[str]:
    """A server that answers 200 with what is not a completion."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>hi</html>")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


@pytest.fixture(scope="session", params=["all", "split"])
def installation(
    request: pytest.FixtureRequest, open_folder: Path, postgres: Postgres, nats: Nats
) -> Iterator[Installation]:
    """All services in one process, and one process each: the same stories must pass."""
    with installed(open_folder, postgres, nats, request.param) as running:
        yield running


@pytest.fixture
async def shop(installation: Installation) -> AsyncIterator[Clients]:
    """A tenant."""
    async with tenant(installation) as clients:
        yield clients


@pytest.fixture(scope="session")
def node_sdk(tmp_path_factory: pytest.TempPathFactory) -> NodeSdk:
    """OpenAI's SDK for Node, asked for once: where npm's packages cannot be reached, that takes long to find out."""
    return NodeSdk.in_folder(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two models of the same people and things, which rank differently, and both know something for everybody."""
    folder = tmp_path_factory.mktemp("artifacts")
    rows = [
        f"user-{user},item-{item},{1 + (user * item) % 5}"
        for user in range(40)
        for item in range(60)
        if (user * user + item * item + user * item) % 7 < 3
    ]
    (folder / "rows.csv").write_text("user_id,item_id,rating\n" + "\n".join(rows) + "\n")
    interactions = read_interactions(folder / "rows.csv")
    for algorithm in (Algorithm.ALS, Algorithm.BM25):
        write_artifact(folder / algorithm.value, train(interactions, algorithm, {}))
    return {algorithm.value: folder / algorithm.value for algorithm in (Algorithm.ALS, Algorithm.BM25)}
