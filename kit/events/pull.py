"""The flow of messages from a durable consumer into this process, over one connection: bounded, and never silent."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

import orjson
from nats.aio.msg import Msg

from kit.errors import Unavailable
from kit.events.connection import Connection
from kit.events.delivery import Delivery, delivery_of
from kit.events.stream import STREAM

_HEARTBEAT_SECONDS: Final = 5
_SILENCE_SECONDS: Final = 2.5 * _HEARTBEAT_SECONDS
_REQUEST_SECONDS: Final = 30
_REQUEST_BYTES: Final = 8 << 20
"""What one request may bring, unless the broker's largest message needs more."""
_LINGER_SECONDS: Final = 0.02
"""How long a batch that is not full waits for company."""
_ENDS: Final = ("Batch Completed", "Message Size Exceeds")


class Pull:
    """Asks for messages and holds those that came, at most two batches of them."""

    def __init__(self, connection: Connection, durable: str, batch_size: int) -> None:
        self.connection = connection
        self.held: deque[Delivery] = deque()
        """What has arrived and is not taken yet."""
        self._batch_size = batch_size
        self._inbox = connection.inbox()
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{durable}"
        self._bytes = max(_REQUEST_BYTES, 2 * connection.max_payload)
        self._asked = 0
        self._failure = ""
        self._wake: asyncio.Future[None] | None = None

    @property
    def inbox(self) -> str:
        """Where messages come in; subscribe it to :meth:`receive`."""
        return self._inbox

    async def receive(self, message: Msg) -> None:
        """Take a message or a status."""
        status = (message.headers or {}).get("Status") if not message.data else None
        if status is None:
            self._asked = max(0, self._asked - 1)
            self.held.append(delivery_of(message))
        elif status != "100":
            self._end_request(status, message.headers or {})
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    async def next_batch(self) -> list[Delivery]:
        """The next messages, oldest first: at least one, at most a batch. Waits for ever on a consumer that is there.

        :raises Unavailable: `CONSUMER_LOST`: it or its stream is gone, or nobody can tell; `BROKER_UNREACHABLE`
        """
        while not self.held:
            await self._ask()
            try:
                await self._wait(_SILENCE_SECONDS)
            except TimeoutError:
                raise Unavailable("not even a heartbeat came", reason="CONSUMER_LOST") from None
        deadline = asyncio.get_running_loop().time() + _LINGER_SECONDS
        while len(self.held) < self._batch_size:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            with suppress(TimeoutError):
                await self._wait(left)
        batch = [self.held.popleft() for _ in range(min(self._batch_size, len(self.held)))]
        # While this batch is handled, the next one comes.
        await self._ask()
        return batch

    async def _ask(self) -> None:
        if self._failure:
            raise Unavailable(f"the consumer cannot be read: {self._failure}", reason="CONSUMER_LOST")
        expected = self._asked + len(self.held)
        if expected > self._batch_size:
            return
        wanted = 2 * self._batch_size - expected
        request = {
            "batch": wanted,
            "max_bytes": self._bytes,
            "expires": _REQUEST_SECONDS * 1_000_000_000,
            "idle_heartbeat": _HEARTBEAT_SECONDS * 1_000_000_000,
        }
        self._asked += wanted
        await self.connection.publish(self._subject, orjson.dumps(request), reply=self._inbox)

    async def _wait(self, seconds: float) -> None:
        self._wake = asyncio.get_running_loop().create_future()
        try:
            await self.connection.wait(self._wake, seconds=seconds)
        finally:
            self._wake = None

    def _end_request(self, status: str, headers: dict[str, str]) -> None:
        words = headers.get("Description", "")
        left = headers.get("Nats-Pending-Messages", "")
        if left.isdigit() and (status == "408" or words.startswith(_ENDS)):
            # A request that is through, or ran out of time or bytes: what it did not bring is asked for again.
            self._asked = max(0, self._asked - int(left))
        else:
            self._failure = self._failure or f"{status} {words}".strip()
