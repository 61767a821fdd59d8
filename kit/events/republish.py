"""Rebuilding a stream that NATS lost, from what the spool keeps after it was acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Final

from kit.events.broker import Broker
from kit.events.publisher import JetStreamPublisher
from kit.events.stream import StreamOptions
from kit.spool import Record, Rejected, replay

BATCH: Final = 256
CONNECT_SECONDS: Final = 10.0


async def republish(
    root: Path, servers: str, options: StreamOptions, since: datetime, *, progress: Callable[[int], None]
) -> int:
    """Publish again what JetStream took at or after `since`, under the same ids: what arrives twice counts once.

    Running processes need not be stopped. Safe to repeat.

    :param root: the spool's folder, of any number of processes
    :param progress: told how many records were published so far, after every batch
    :return: how many were published
    :raises TimeoutError: if NATS is not there within 10 s
    :raises Unavailable: if it stops to take events
    :raises OSError: if `root` cannot be read, or there is no descriptor or memory left
    """
    broker = Broker(servers, name="turnout replay", stream_options=options)
    running = asyncio.create_task(broker.run())
    try:
        connection = await asyncio.wait_for(broker.connected(), CONNECT_SECONDS)
        await broker.ensure_stream(connection)
        publisher, records, published = JetStreamPublisher(broker), replay(root, since), 0
        while batch := await asyncio.to_thread(_next, records):
            outcomes = await publisher.publish(batch)
            published += sum(not isinstance(outcome, Rejected) for outcome in outcomes)
            progress(published)
        return published
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def _next(records: Iterator[Record]) -> Sequence[Record]:
    return list(islice(records, BATCH))
