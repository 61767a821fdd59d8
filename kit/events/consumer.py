"""Durable consumers: at least once, in batches, acknowledged after they took effect; one bad message stops nobody."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import nats.errors
from nats.js import api

from kit.errors import Conflict, Unavailable
from kit.events.broker import Broker
from kit.events.connection import Connection
from kit.events.delivery import Delivery, Refused, Tally, Unusable
from kit.events.pull import Pull
from kit.events.stream import STREAM
from kit.telemetry import TraceContext, parse_traceparent

log = logging.getLogger(__name__)

Handle: TypeAlias = Callable[[Sequence[Delivery]], Awaitable[None]]
OnPoison: TypeAlias = Callable[[Delivery, Exception], Awaitable[None]]
LinkedSpan: TypeAlias = Callable[[str, Sequence[TraceContext]], AbstractContextManager[object]]
"""Opens a span of its own, linked to the places given; called only when there are any."""

_ACK, _TERM, _IN_PROGRESS = b"+ACK", b"+TERM", b"+WPI"
_MAX_PAUSE_SECONDS: Final = 5.0
_MAX_LINKS: Final = 32


@contextmanager
def no_span(_: str, __: Sequence[TraceContext]) -> Iterator[None]:
    """For consumers that are not traced."""
    yield


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerOptions:
    """How a consumer behaves."""

    durable: str
    """Its name on the broker. Processes of one name share the work; each message goes to one of them."""
    subjects: tuple[str, ...]
    batch_size: int = 500
    ack_wait_seconds: float = 30.0
    """After it, a message that was neither acknowledged nor kept alive is delivered again, to anybody."""
    lone_tries: int = 3
    """How often a message that fails by itself is tried before it is given up."""
    first_pause_seconds: float = 0.1


async def consume(
    broker: Broker,
    options: ConsumerOptions,
    handle: Handle,
    on_poison: OnPoison,
    *,
    linked_span: LinkedSpan = no_span,
    tally: Tally | None = None,
) -> None:
    """Hand every message of `options.subjects` to `handle`, until cancelled. Survives the loss of the broker, the
    stream and the consumer; what is made again starts at the beginning of the stream, so `handle` deduplicates by id.

    One call of `handle` is one batch, in the stream's order, and should be one transaction: it is acknowledged only
    after it returns. If it raises

    - `Unavailable` or `Conflict`: nothing is acknowledged; the same batch is tried again after a pause, for ever.
    - `Unusable`: the deliveries that it names are handed to `on_poison`, the rest of the batch is tried again at once.
    - anything else: the batch is halved, and so on, until what fails is alone. A delivery that fails `lone_tries`
      times by itself is handed to `on_poison` and never delivered again; the others take effect, in order.

    `on_poison` stores a delivery where a person finds it. It must be able to take any; if it raises, then something
    else is wrong, a full disk perhaps, and the delivery is kept and tried again after a pause.
    """
    await _Consumer(broker, options, handle, on_poison, linked_span, tally or Tally()).run()


class _Consumer:
    def __init__(
        self,
        broker: Broker,
        options: ConsumerOptions,
        handle: Handle,
        on_poison: OnPoison,
        linked_span: LinkedSpan,
        tally: Tally,
    ) -> None:
        self._broker = broker
        self._options = options
        self._handle = handle
        self._on_poison = on_poison
        self._linked_span = linked_span
        self._tally = tally
        self._last_failure = ""
        self._extra = {"consumer": options.durable}

    async def run(self) -> None:
        pauses = _Pauses(self._options)
        while True:
            connection = await self._broker.connected()
            try:
                await self._ensure(connection)
                await self._consume_from(connection, pauses)
            except Unavailable as error:
                if error.reason != self._last_failure:
                    self._last_failure = error.reason
                    log.warning("consumption stops; trying again", extra={**self._extra, "error": str(error)})
            await pauses.wait()

    async def _ensure(self, connection: Connection) -> None:
        """Make the stream and the consumer, or bring the consumer to our settings."""
        await self._broker.ensure_stream(connection)
        options = self._options
        wanted = api.ConsumerConfig(
            durable_name=options.durable,
            filter_subjects=list(options.subjects),
            deliver_policy=api.DeliverPolicy.ALL,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=options.ack_wait_seconds,
            # Of all processes together; enough for several, bounded so that a crash repeats only so much.
            max_ack_pending=16 * options.batch_size,
        )
        try:
            await connection.manager.add_consumer(STREAM, wanted)
        except (nats.errors.Error, TimeoutError) as error:
            words = getattr(error, "description", None) or type(error).__name__
            raise Unavailable(f"the consumer cannot be had ({words})", reason="CONSUMER_UNAVAILABLE") from error

    async def _consume_from(self, connection: Connection, pauses: _Pauses) -> None:
        pull = Pull(connection, self._options.durable, self._options.batch_size)
        subscription = await connection.subscribe(pull.inbox, pull.receive)
        try:
            while True:
                batch = await pull.next_batch()
                await self._take(pull, batch)
                pauses.reset()
                self._last_failure = ""
        finally:
            await connection.unsubscribe(subscription)

    async def _take(self, pull: Pull, batch: Sequence[Delivery]) -> None:
        """See a batch through, whatever it takes; what is acknowledged has taken effect or was given up."""
        is_alone = len(batch) == 1
        failed = await self._attempt(pull, batch, given_up_after=self._options.lone_tries if is_alone else None)
        if failed:
            middle = (len(failed) + 1) // 2
            await self._take(pull, failed[:middle])
            if failed[middle:]:
                await self._take(pull, failed[middle:])

    async def _attempt(
        self, pull: Pull, batch: Sequence[Delivery], *, given_up_after: int | None
    ) -> Sequence[Delivery]:
        """Try a batch until it takes effect.

        :return: what must be tried in smaller parts, because some of it fails; nothing if `given_up_after` is set

        :raises Unavailable: if the connection ended: the broker will deliver all of it again
        """
        pauses, failures = _Pauses(self._options), 0
        while batch:
            try:
                with self._span(batch):
                    await self._handle(batch)
            except (Unavailable, Conflict) as error:
                await self._postpone(pull, batch, pauses, error)
            except Unusable as error:
                bad = {id(delivery) for delivery, _ in error.found}
                for delivery, reason in error.found:
                    await self._give_up(pull, batch, delivery, Refused(reason))
                batch = [delivery for delivery in batch if id(delivery) not in bad]
            except Exception as error:  # whatever one message provokes must not stop the others
                if given_up_after is None:
                    extra = {**self._extra, "messages": len(batch), "error": type(error).__name__}
                    log.warning("a batch fails; it is tried in halves", extra=extra, exc_info=True)
                    return batch
                failures += 1
                if failures < given_up_after:
                    await self._postpone(pull, batch, pauses, error)
                    continue
                await self._give_up(pull, batch, batch[0], error)
                return ()
            else:
                for delivery in batch:
                    await pull.connection.publish(delivery.reply, _ACK)
                self._tally.handled += len(batch)
                self._tally.batches += 1
                return ()
        return ()

    async def _give_up(self, pull: Pull, batch: Sequence[Delivery], delivery: Delivery, error: Exception) -> None:
        pauses = _Pauses(self._options)
        while True:
            try:
                await self._on_poison(delivery, error)
                break
            except Exception as failure:  # noqa: BLE001  # see `consume`: keep it, and try again
                await self._postpone(pull, batch, pauses, failure)
        await pull.connection.publish(delivery.reply, _TERM)
        self._tally.poisoned += 1
        extra = {
            **self._extra,
            "id": delivery.id,
            "subject": delivery.subject,
            "stream_sequence": delivery.stream_sequence,
            "error": str(error) if isinstance(error, Refused) else type(error).__name__,
        }
        log.error("a message is given up", extra=extra, exc_info=None if isinstance(error, Refused) else error)

    async def _postpone(self, pull: Pull, batch: Sequence[Delivery], pauses: _Pauses, error: Exception) -> None:
        """Wait, and have the broker know that what we hold is still being worked on."""
        self._tally.postponed += 1
        if pauses.are_fresh:
            extra = {**self._extra, "messages": len(batch), "error": getattr(error, "reason", type(error).__name__)}
            log.warning("a batch waits", extra=extra, exc_info=not isinstance(error, (Unavailable, Conflict)))
        for delivery in (*batch, *pull.held):
            await pull.connection.publish(delivery.reply, _IN_PROGRESS)
        await pauses.wait()

    @contextmanager
    def _span(self, batch: Sequence[Delivery]) -> Iterator[None]:
        places = list(_sampled(batch))
        if not places:
            yield
            return
        with self._linked_span(f"{self._options.durable} process", places):
            yield


class _Pauses:
    """Pauses that grow and are jittered, so that processes that failed together do not come back together."""

    def __init__(self, options: ConsumerOptions) -> None:
        self._first_seconds = options.first_pause_seconds
        # A sign of life before every pause keeps what we hold ours only if pauses are shorter than the broker's wait.
        self._max_seconds = min(_MAX_PAUSE_SECONDS, options.ack_wait_seconds / 3)
        self._seconds = self._first_seconds

    @property
    def are_fresh(self) -> bool:
        return self._seconds == self._first_seconds

    def reset(self) -> None:
        self._seconds = self._first_seconds

    async def wait(self) -> None:
        await asyncio.sleep(self._seconds * random.uniform(0.5, 1))  # noqa: S311  # jitter, no secret
        self._seconds = min(self._seconds * 2, self._max_seconds)


def _sampled(batch: Sequence[Delivery]) -> Iterator[TraceContext]:
    """Places of the sampled traces in a batch, each once, not too many."""
    seen: set[str] = set()
    for delivery in batch:
        header = delivery.headers.get("traceparent", "")
        # The last two digits are the flags: most messages are not sampled, and cost a comparison.
        if not header or header in seen or header[-1] not in "13579bdf":
            continue
        seen.add(header)
        if (place := parse_traceparent(header)) is not None and place.sampled:
            yield place
        if len(seen) == _MAX_LINKS:
            return
