"""A broker whose account has no room left, for other streams have taken it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import nats
import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.js import api

from kit import ids
from kit.errors import Unavailable
from kit.events.broker import Broker
from kit.events.publisher import JetStreamPublisher
from kit.events.stream import StreamOptions
from kit.spool import ACKNOWLEDGED, Record
from stack.nats import Nats
from stack.server import Launch
from tests.kit.events.conftest import SUBJECT


class SmallAccount(Nats):
    """NATS whose only account may store 2 MB."""

    @property
    def url(self) -> str:
        return f"nats://a:a@127.0.0.1:{self.port}"

    def _launch(self) -> Launch:
        launch = super()._launch()
        limits = "{ jetstream: { max_file: 2MB, max_mem: 1MB }, users: [{ user: a, password: a }] }"
        config = self.folder / "accounts.conf"
        config.write_text(f"accounts {{ A {limits} }}")
        return replace(launch, command=[*launch.command, "--config", str(config)])


def large() -> list[Record]:
    return [Record(ids.encode(ids.uuid7()), SUBJECT, bytes(300_000), {})]


async def test_an_account_without_room_is_the_brokers_matter_and_not_the_records(tmp_path: Path) -> None:
    with SmallAccount(tmp_path / "nats") as server:
        broker = Broker(server.url, name="test", stream_options=StreamOptions(max_bytes=1 << 20))
        running = asyncio.create_task(broker.run())
        try:
            connection = await asyncio.wait_for(broker.connected(), 20)
            client = await nats.connect(server.url)
            publisher = JetStreamPublisher(broker)
            assert list(await publisher.publish(large())) == [ACKNOWLEDGED]
            # Another stream of the same account fills it.
            await connection.manager.add_stream(api.StreamConfig(name="OTHER", subjects=["other"]))
            with pytest.raises(nats.js.errors.BadRequestError):
                await _fill(client)

            with pytest.raises(Unavailable, match="resource limits exceeded"):
                await publisher.publish(large())

            await connection.manager.purge_stream("OTHER")
            assert list(await publisher.publish(large())) == [ACKNOWLEDGED]
            await client.close()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def _fill(client: Client) -> None:
    while True:
        await client.jetstream().publish("other", bytes(100_000))
