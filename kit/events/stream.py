"""The one stream that all events lie in, and how it comes to be."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import nats.errors
import nats.js.errors
from nats.js import api
from nats.js.manager import JetStreamManager

from kit.errors import Unavailable

log = logging.getLogger(__name__)

STREAM: Final = "TURNOUT_EVENTS"
SUBJECTS: Final = "turnout.events.v1.>"
PREFIX: Final = SUBJECTS.removesuffix(">")
"""How the subject of every event begins."""
MAX_AGE_SECONDS: Final = 7 * 24 * 3600
DUPLICATE_WINDOW_SECONDS: Final = 120

_NAME_IN_USE: Final = 10058


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What can be set about the stream when it is made."""

    max_bytes: int


async def ensure(manager: JetStreamManager, options: StreamOptions) -> None:
    """Make the stream unless it exists; what an operator has changed about an existing one is left alone.

    Limits retention, discard OLD: anyone may subscribe later and read again what others have read, so a full stream
    drops its oldest events, read or not. (With discard NEW the stream would be full for ever once it was full, because
    reading removes nothing.) So "no event is lost" holds as long as every durable consumer comes back before an event
    is `MAX_AGE_SECONDS` old and before `max_bytes` more have been published; whoever operates this alerts on a
    consumer's lag long before either. A stream that vanishes with its disk is made again, and refilled from what the
    spools still hold: everything unacknowledged at once, acknowledged events by a replay within the spools' retention.

    :raises Unavailable: `STREAM_UNAVAILABLE`, with the broker's own words
    """
    try:
        await manager.stream_info(STREAM)
    except nats.js.errors.NotFoundError:
        pass
    except (nats.errors.Error, TimeoutError) as error:
        raise _unavailable(error) from error
    else:
        return
    try:
        await manager.add_stream(
            api.StreamConfig(
                name=STREAM,
                description="Everything that happened: the events of every Turnout service.",
                subjects=[SUBJECTS],
                storage=api.StorageType.FILE,
                retention=api.RetentionPolicy.LIMITS,
                discard=api.DiscardPolicy.OLD,
                max_age=MAX_AGE_SECONDS,
                max_bytes=options.max_bytes,
                duplicate_window=DUPLICATE_WINDOW_SECONDS,
                # Servers before 2.12 do not know it, and leave it out.
                allow_atomic=True,
            )
        )
    except nats.js.errors.APIError as error:
        # Somebody else made it meanwhile, with options of its own: as good as ours.
        if error.err_code != _NAME_IN_USE:
            raise _unavailable(error) from error
    except (nats.errors.Error, TimeoutError) as error:
        raise _unavailable(error) from error
    else:
        log.info("the event stream is made", extra={"stream": STREAM, "max_bytes": options.max_bytes})


async def takes_batches(manager: JetStreamManager) -> bool | None:
    """Whether the stream takes a batch of messages at once; None if nobody says so.

    Not one that an older version of us has made, or that a server before 2.12 keeps. Nor one whose messages are
    published again elsewhere: there the headers of a batch would be taken for another one.
    """
    try:
        config = (await manager.stream_info(STREAM)).config
    except nats.js.errors.NotFoundError:
        return False
    except (nats.errors.Error, TimeoutError):
        return None
    return bool(config.allow_atomic) and config.republish is None


def _unavailable(error: Exception) -> Unavailable:
    words = getattr(error, "description", None) or type(error).__name__
    return Unavailable(
        f"the event stream {STREAM} cannot be had ({words}); if its size is the reason, set "
        "TURNOUT_EVENTS_STREAM_MAX_BYTES or make the stream by hand",
        reason="STREAM_UNAVAILABLE",
        retry_after_seconds=1,
    )
