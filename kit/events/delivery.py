"""What a consumer receives, and what its handler may say about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nats.aio.msg import Msg

from kit.events.publisher import ID_HEADER


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """One message of the stream, delivered perhaps not for the first time."""

    id: str
    """The event's id, by which consumers deduplicate; empty if whoever published it gave none."""
    subject: str
    payload: bytes
    headers: Mapping[str, str]
    reply: str = field(repr=False, default="")
    """Where acknowledgements go; holds the counters below."""

    @property
    def tries(self) -> int:
        """How often it was delivered, this time included."""
        return int(self._tokens()[-5])

    @property
    def stream_sequence(self) -> int:
        """Where in the stream it lies, for people who look for it."""
        return int(self._tokens()[-4])

    def _tokens(self) -> list[str]:
        # $JS.ACK.<stream>.<consumer>.<tries>.<stream seq>.<consumer seq>.<time>.<pending>; newer servers put a domain
        # and an account before the stream, and a random token at the end.
        tokens = self.reply.split(".")
        return tokens if len(tokens) == 9 else tokens[:11]


class Unusable(Exception):
    """Raised by a handler for deliveries that no repetition will mend, such as bytes that are no message at all.

    :param found: those deliveries of the batch, at least one, each with an UPPER_SNAKE reason; nothing of the batch
        has taken effect
    """

    def __init__(self, found: Sequence[tuple[Delivery, str]]) -> None:
        if not found:
            raise ValueError("a batch without unusable deliveries must not be refused")
        super().__init__(", ".join(sorted({reason for _, reason in found})))
        self.found = tuple(found)


class Refused(Exception):
    """Why one delivery was given up, for whoever keeps it; the text is the reason."""


@dataclass(slots=True)
class Tally:
    """What a consumer has done since it started, for metrics."""

    handled: int = 0
    """Deliveries whose handling took effect, repetitions included."""
    batches: int = 0
    postponed: int = 0
    """Times that a batch had to wait because what it needs was not there."""
    poisoned: int = 0
    """Deliveries given up and handed to `on_poison`."""


def delivery_of(message: Msg) -> Delivery:
    """A message as the library gives it."""
    headers = message.headers or {}
    return Delivery(headers.get(ID_HEADER, ""), message.subject, message.data, headers, message.reply)
