"""The spool's way out: batches of records into JetStream, acknowledged by it.

A stream that allows it takes a batch at once, with one acknowledgement (ADR-50 of nats-architecture-and-design).
Whatever is wrong with a batch, its records are then sent one by one, pipelined, each with an acknowledgement of its
own, which tells which one it is; JetStream knows by their ids what it has already.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
from collections.abc import Sequence
from itertools import chain
from typing import Final

import orjson
from nats.aio.msg import Msg

from kit.errors import Unavailable
from kit.events.broker import Broker
from kit.events.connection import Connection
from kit.events.stream import PREFIX, takes_batches
from kit.spool import ACKNOWLEDGED, Outcome, Record, Rejected

log = logging.getLogger(__name__)

ACK_SECONDS: Final = 10.0
"""How long the broker may take to acknowledge a batch before the batch is repeated."""
ID_HEADER: Final = "Nats-Msg-Id"
BATCH_HEADER: Final = "Nats-Batch-Id"
_BATCH_SEQUENCE: Final = "Nats-Batch-Sequence"
_BATCH_COMMIT: Final = "Nats-Batch-Commit"
_MAX_BATCH: Final = 1000
"""What a server takes at once."""
_ASK_SECONDS: Final = 1.0
_ALONE_AFTER_REFUSAL: Final = 20
_ALONE_AFTER_NO: Final = 200
_ALONE_AFTER_SILENCE: Final = 10_000
"""Some minutes under load."""
_HAS_DUPLICATES: Final = 10201
_AT_ONCE: Final = 128
"""Records that are written before calls get their turn: some 1 µs each."""

# Tokens without white space, wildcards or control characters; long ones would break the protocol's line.
_SUBJECT = re.compile(r"[^\s.*>\x00-\x1f\x7f]+(\.[^\s.*>\x00-\x1f\x7f]+)+")
_MAX_SUBJECT = 512
_HEADER_NAME = re.compile(r"[!-9;-~]+")
_BARE_HEAD_BYTES: Final = len(f"NATS/1.0\r\n{ID_HEADER}: \r\n\r\n")
_MESSAGE_TOO_LARGE: Final = {10054, 10097}
_OF_THE_STREAM: Final = {10002, 10109, 10120}
"""Says 400 too, though no message is at fault: the account has no room or no limits, or the stream is sealed."""


class JetStreamPublisher:
    """`kit.spool.Publisher` over a broker. Used by one relay at a time."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._connection: Connection | None = None
        self._inbox = ""
        self._sent = 0
        self._answers: dict[str, _Answers | _Commit] = {}
        self._takes_batches = False
        """Whether the stream has said so."""
        self._alone = 0
        """So many batches are sent record by record before another is tried, or asked for."""

    async def publish(self, batch: Sequence[Record]) -> Sequence[Outcome]:
        """Publish `batch` in order, without waiting in between, and wait for all acknowledgements.

        A record that JetStream has seen within its duplicate window (the spool repeats whole batches) is acknowledged
        again and not stored again.

        :raises Unavailable: `BROKER_UNREACHABLE`, `BROKER_SILENT`, `BROKER_REFUSES` or `STREAM_UNAVAILABLE`: later
        """
        connection = self._broker.connection()
        await self._listen(connection)
        max_payload = connection.max_payload
        # What is larger than half of what is taken might be too much with the headers of a batch.
        refusals = [refusal_of(record, max_payload // 2) for record in batch]
        is_roomy = not any(refusals)
        if is_roomy and await self._send_at_once(connection, batch):
            return [ACKNOWLEDGED] * len(batch)
        answers = _Answers(batch)
        if not is_roomy:
            for index, record in enumerate(batch):
                if (reason := refusal_of(record, max_payload)) is not None:
                    answers.settle(index, Rejected(reason))
        await self._send(connection, answers)
        if answers.homeless:
            await self._broker.ensure_stream(connection)
            self._takes_batches, self._alone = False, 0
            await self._send(connection, answers)
        return answers.outcomes()

    async def _ask(self, connection: Connection) -> bool:
        """Whether the stream takes batches; if not, it is asked again after many of them."""
        answer: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        question = asyncio.create_task(takes_batches(connection.manager))
        question.add_done_callback(lambda asked: _hand_over(asked, answer))
        try:
            says = await connection.wait(answer, seconds=_ASK_SECONDS)
        except TimeoutError:
            says = None
        finally:
            question.cancel()
        self._takes_batches = says is True
        if not self._takes_batches:
            # Who says nothing has no right to, say, and each question takes a second then.
            self._alone = _ALONE_AFTER_SILENCE if says is None else _ALONE_AFTER_NO
        return self._takes_batches

    async def _send_at_once(self, connection: Connection, records: Sequence[Record]) -> bool:
        """Send all as one batch; whether JetStream has it now."""
        if not 1 < len(records) <= _MAX_BATCH:
            return False
        if self._alone:
            self._alone -= 1
            return False
        if not self._takes_batches and not await self._ask(connection):
            return False
        self._sent += 1
        token = str(self._sent)
        commit = self._answers[token] = _Commit()
        batch_id = records[0].id + token
        mark = f"{BATCH_HEADER}: {batch_id}\r\n{_BATCH_SEQUENCE}: "
        try:
            marks = [f"{mark}{count}\r\n" for count in range(1, len(records) + 1)]
            marks[-1] += f"{_BATCH_COMMIT}: 1\r\n"
            replies = [""] * (len(records) - 1) + [f"{self._inbox}.{token}.0"]
            await self._write(connection, records, marks, replies)
            answer = await connection.wait(commit.complete, seconds=ACK_SECONDS)
        except TimeoutError:
            raise _silent() from None
        finally:
            del self._answers[token]
            commit.complete.cancel()
        # A server that knows no batches would acknowledge its last message alone.
        if answer.get("batch") != batch_id or answer.get("count") != len(records):
            error = answer.get("error")
            if not isinstance(error, dict) or error.get("err_code") != _HAS_DUPLICATES:
                self._alone = _ALONE_AFTER_REFUSAL
            return False
        return True

    async def _send(self, connection: Connection, answers: _Answers) -> None:
        """Send what has no outcome yet, and wait until each has one or is known to have no stream."""
        indexes = answers.begin()
        if not indexes:
            return
        self._sent += 1
        token = str(self._sent)
        self._answers[token] = answers
        try:
            replies = [f"{self._inbox}.{token}.{index}" for index in indexes]
            await self._write(connection, [answers.batch[index] for index in indexes], [""] * len(indexes), replies)
            await connection.wait(answers.complete, seconds=ACK_SECONDS)
        except TimeoutError:
            raise _silent() from None
        finally:
            del self._answers[token]
            answers.complete.cancel()

    async def _write(
        self, connection: Connection, records: Sequence[Record], marks: Sequence[str], replies: Sequence[str]
    ) -> None:
        """
        :param marks: headers for each record, each with its end
        :param replies: where each is to be acknowledged; empty for nowhere
        """
        for start in range(0, len(records), _AT_ONCE):
            some = slice(start, start + _AT_ONCE)
            frames = map(_frame, records[some], marks[some], replies[some])
            await connection.write(b"".join(chain.from_iterable(frames)))
            await asyncio.sleep(0)

    async def _listen(self, connection: Connection) -> None:
        if self._connection is not connection:
            self._inbox = connection.inbox()
            await connection.subscribe(f"{self._inbox}.*.*", self._on_answer)
            self._connection = connection
            self._takes_batches, self._alone = False, 0

    async def _on_answer(self, message: Msg) -> None:
        _, token, index = message.subject.rsplit(".", 2)
        # An answer that comes after its batch was given up belongs to nobody.
        if (answers := self._answers.get(token)) is not None:
            answers.receive(int(index), message)


class _Commit:
    """What the broker says to a whole batch."""

    def __init__(self) -> None:
        self.complete: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()

    def receive(self, _index: int, message: Msg) -> None:
        try:
            answer = orjson.loads(message.data)
        except orjson.JSONDecodeError:
            # Nobody listens, say.
            answer = None
        if not self.complete.done():
            self.complete.set_result(answer if isinstance(answer, dict) else {})


class _Answers:
    """What the broker says to each record of a batch."""

    def __init__(self, batch: Sequence[Record]) -> None:
        self.batch = batch
        self.complete: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.homeless: set[int] = set()
        """Records that no stream listens for."""
        self._outcomes: list[Outcome | None] = [None] * len(batch)
        self._missing: set[int] = set()
        self._refusal = ""

    def begin(self) -> list[int]:
        """Those to send, in order."""
        self.complete = asyncio.get_running_loop().create_future()
        self._missing = {index for index, outcome in enumerate(self._outcomes) if outcome is None}
        self.homeless.clear()
        return sorted(self._missing)

    def settle(self, index: int, outcome: Outcome) -> None:
        self._outcomes[index] = outcome

    def receive(self, index: int, message: Msg) -> None:
        if (message.headers or {}).get("Status") == "503":
            self.homeless.add(index)
        else:
            self._read(index, message.data)
        self._missing.discard(index)
        if not self._missing and not self.complete.done():
            self.complete.set_result(None)

    def outcomes(self) -> list[Outcome]:
        """All of them.

        :raises Unavailable: if some record has none, because the broker takes it later or never
        """
        found = [outcome for outcome in self._outcomes if outcome is not None]
        if len(found) < len(self.batch):
            raise Unavailable(
                f"the event broker does not take events now ({self._refusal or 'no stream listens'})",
                reason="BROKER_REFUSES",
            )
        return found

    def _read(self, index: int, answer: bytes) -> None:
        try:
            error = orjson.loads(answer).get("error")
        except (orjson.JSONDecodeError, AttributeError):
            self._refusal = "an answer that is not JetStream's"
            return
        if error is None:
            self._outcomes[index] = ACKNOWLEDGED
            return
        number = error.get("err_code", 0)
        if number in _MESSAGE_TOO_LARGE:
            self._outcomes[index] = Rejected("MESSAGE_TOO_LARGE")
        elif error.get("code") == 400 and number not in _OF_THE_STREAM:
            # 400 says that this message is at fault, not the stream: it will be no better next time.
            self._outcomes[index] = Rejected(f"NATS_{number}")
        else:
            self._refusal = f"{error.get('description', 'no reason')}, {number}"


def _hand_over(asked: asyncio.Task[bool | None], answer: asyncio.Future[bool | None]) -> None:
    if not (asked.cancelled() or asked.exception() or answer.done()):
        answer.set_result(asked.result())


def _frame(record: Record, marks: str, reply: str) -> tuple[bytes, bytes, bytes, bytes]:
    """In parts, as the protocol says (https://docs.nats.io/reference/reference-protocols/nats-protocol#hpub); only of
    what :func:`refusal_of` lets pass, for there a line may end."""
    lines, payload = "", record.payload
    for name, value in record.headers.items():
        lines += f"{name}: {value}\r\n"
    head = f"NATS/1.0\r\n{lines}{ID_HEADER}: {record.id}\r\n{marks}\r\n".encode()
    sizes = f"HPUB {record.subject} {reply}{' ' if reply else ''}{len(head)} {len(head) + len(payload)}\r\n"
    return sizes.encode(), head, payload, b"\r\n"


def _silent() -> Unavailable:
    return Unavailable("the event broker does not answer", reason="BROKER_SILENT")


# One for each type of event and project.
@functools.lru_cache(maxsize=1024)
def _is_subject(subject: str) -> bool:
    return len(subject) <= _MAX_SUBJECT and subject.startswith(PREFIX) and _SUBJECT.fullmatch(subject) is not None


def refusal_of(record: Record, max_payload: int) -> str | None:
    """Why the broker would never take a record; None if it may. It hangs up on some of these, so they are not sent."""
    if not _is_subject(record.subject):
        return "BAD_SUBJECT"
    size = _BARE_HEAD_BYTES + len(record.id) + len(record.payload)
    for name, value in record.headers.items():
        if _HEADER_NAME.fullmatch(name) is None or "\n" in value or "\r" in value:
            return "BAD_HEADER"
        size += len(name) + len(value.encode()) + 4
    return "MAX_PAYLOAD_EXCEEDED" if size > max_payload else None
