from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import nats
import pytest

from kit.errors import Unavailable
from stack.nats import Nats


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Nats]:
    with Nats(tmp_path / "nats") as server:
        yield server


async def _publish(server: Nats, *numbers: int) -> None:
    client = await nats.connect(server.url)
    try:
        jetstream = client.jetstream()
        await jetstream.add_stream(name="numbers", subjects=["numbers"])
        for number in numbers:
            assert (await jetstream.publish("numbers", str(number).encode())).stream == "numbers"
    finally:
        await client.close()


async def _read_all(server: Nats) -> list[int]:
    client = await nats.connect(server.url)
    try:
        jetstream = client.jetstream()
        count = (await jetstream.stream_info("numbers")).state.messages
        subscription = await jetstream.pull_subscribe("numbers")
        messages = await subscription.fetch(count, timeout=5)
        for message in messages:
            await message.ack_sync()
        return [int(message.data) for message in messages]
    finally:
        await client.close()


async def test_it_serves_with_the_usual_limit(server: Nats) -> None:
    await _publish(server, 1, 2, 3)
    client = await nats.connect(server.url)

    assert client.max_payload == 1 << 20
    assert await _read_all(server) == [1, 2, 3]
    await client.close()


@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_acknowledged_messages_and_the_port_survive(server: Nats, end: str) -> None:
    await _publish(server, *range(100))
    url = server.url

    getattr(server, end)()
    assert not server.alive()
    server.start()

    assert server.url == url
    assert await _read_all(server) == list(range(100))


def test_another_nats_that_took_its_port_is_not_mistaken_for_it(tmp_path: Path) -> None:
    server = Nats(tmp_path / "nats")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "port").write_text(str(server.port))

    with Nats(tmp_path / "other") as other:
        assert other.port == server.port
        with pytest.raises(Unavailable, match=f"port {server.port} is in use") as failure:
            server.start()

        assert failure.value.reason == "SERVER_START_FAILED"
        assert other.alive()
