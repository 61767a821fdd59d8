"""One connection to NATS, from its opening to its end. After its end there is another one, never the same again.

The client library can reconnect by itself, but then it buffers, replays and, on some errors, gives up for ever. Here a
connection that breaks fails everything that waits on it, at once, and whoever needs a broker starts afresh on the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.manager import JetStreamManager

from kit.errors import Unavailable

API_SECONDS: Final = 5.0
"""How long the broker may take to answer a question about streams and consumers."""

T = TypeVar("T")


class Connection:
    """A live connection; once :attr:`is_closed`, a dead one."""

    def __init__(self, client: Client) -> None:
        self._client = client
        # Asking which loop runs is a system call, and this is asked for every message.
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[object]] = set()
        self.is_closed = False
        self.manager = JetStreamManager(client, timeout=API_SECONDS)

    @property
    def is_alive(self) -> bool:
        """Whether the client still holds it; it may take a moment until waiters are told that it does not."""
        return bool(self._client.is_connected)

    @property
    def max_payload(self) -> int:
        """The largest message, headers included, that the broker takes; it hangs up on larger ones."""
        return self._client.max_payload

    def inbox(self) -> str:
        """A subject of our own, for answers."""
        return self._client.new_inbox()

    async def publish(
        self, subject: str, payload: bytes, *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send a message, without waiting for anybody to take it.

        :raises Unavailable: `BROKER_UNREACHABLE`
        """
        try:
            await self._client.publish(subject, payload, reply, headers)
        except (nats.errors.Error, OSError) as error:
            raise unreachable() from error
        self._heed_cancellation()

    async def write(self, frames: bytes) -> None:
        """Send messages as the protocol writes them, without waiting for anybody to take them.

        The client's own way takes one message at a time and 12 µs for it. What is used of it instead is no promise of
        its makers': tests of all that is published would tell.

        :raises Unavailable: `BROKER_UNREACHABLE`
        """
        client = self._client
        if not client.is_connected:
            raise unreachable()
        try:
            await client._send_command(frames)
            await client._flush_pending()
        except (nats.errors.Error, OSError) as error:
            raise unreachable() from error
        self._heed_cancellation()

    def _heed_cancellation(self) -> None:
        # The client swallows one that meets it while it waits for the socket.
        task = asyncio.current_task(self._loop)
        if task is not None and task.cancelling():
            raise asyncio.CancelledError

    async def subscribe(self, subject: str, on_message: Callable[[Msg], Awaitable[None]]) -> Subscription:
        """Have `on_message` called for every message, until the connection ends or :meth:`unsubscribe`.

        :raises Unavailable: `BROKER_UNREACHABLE`
        """
        try:
            return await self._client.subscribe(subject, cb=on_message)
        except (nats.errors.Error, OSError) as error:
            raise unreachable() from error

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; those of a dead connection have ended."""
        with suppress(nats.errors.Error, OSError):
            await subscription.unsubscribe()

    async def wait(self, future: asyncio.Future[T], *, seconds: float) -> T:
        """What `future` gives.

        :raises Unavailable: `BROKER_UNREACHABLE` when the connection ends first
        :raises TimeoutError: when `seconds` pass first; the future is then cancelled
        """
        if self.is_closed:
            future.cancel()
            raise unreachable()
        self._waiting.add(future)  # type: ignore[arg-type]  # futures are invariant; only failed here
        try:
            async with asyncio.timeout(seconds):
                return await future
        finally:
            self._waiting.discard(future)

    def closed(self) -> None:
        """The connection has ended: fail what waits."""
        self.is_closed = True
        for future in self._waiting:
            if not future.done():
                future.set_exception(unreachable())

    async def close(self) -> None:
        """End it; what was published before is sent first. Bounded, because a dead peer reads nothing."""
        with suppress(nats.errors.Error, OSError, TimeoutError):
            async with asyncio.timeout(2):
                if self._client.is_connected:
                    await self._client.flush(timeout=1)
                await self._client.close()
        self.closed()


def unreachable() -> Unavailable:
    """What a broker that is not there means to whoever needs it."""
    return Unavailable("the event broker cannot be reached", reason="BROKER_UNREACHABLE", retry_after_seconds=1)
