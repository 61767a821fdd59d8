"""Follows the registry: one stream, one immutable view at a time, a copy on disk for when the registry is down.

The only module here that speaks gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Final

import grpc

from catalog import disk
from catalog.config import CatalogConfig
from catalog.convert import change_from_proto
from catalog.view import View
from kit import config, status
from kit.calls import Call
from kit.errors import CannotStart, Unavailable
from kit.runtime import Runtime
from turnout.registry.v1 import catalog_pb2 as pb
from turnout.registry.v1 import catalog_service_pb2 as service_pb
from turnout.registry.v1 import catalog_service_pb2_grpc as rpc

log = logging.getLogger(__name__)

SILENCE_SECONDS: Final = 2.0
"""Without a message for this long (eight heartbeats) the stream is taken for dead and opened anew."""
REACH_SECONDS: Final = 2.0
"""How long a call waits for a view as new as it asks for."""
COPY_GRACE_SECONDS: Final = 1.0
"""How long a process that starts from its disk copy waits for the registry before it serves without it."""
REFUSED_GRACE_SECONDS: Final = 30.0
"""How long a process that serves goes on when the registry refuses its key: as long as a change of keys may take."""
REFUSED_LOG_SECONDS: Final = 10.0
KEY_USES_SECONDS: Final = 60.0
"""How often the registry is told when keys were last used, give or take a quarter."""
_TELL_SECONDS: Final = 5.0
_TELL_LAST_SECONDS: Final = 1.0
_MAX_USES_PER_CALL: Final = 1000
_REFUSALS: Final = frozenset(
    ("KEY_MISSING", "KEY_MALFORMED", "KEY_UNKNOWN", "KEY_REVOKED", "KEY_EXPIRED", "SCOPE_MISSING")
)
"""What a registry that is well says to a key: no outage, so no reason to trust what was true before it."""
_TELLING: Final = frozenset(("begin", "end", "resumed", "change"))
"""What a registry that reads its database sends. A heartbeat alone says so only to who has everything up to it."""
_COPY_DELAY_SECONDS: Final = 1.0
_MAX_BACKOFF_SECONDS: Final = 1.0


class Catalog:
    """The newest view, and what keeps it so."""

    def __init__(self, settings: CatalogConfig) -> None:
        self._service_key = settings.service_key.get_secret_value()
        self._path: Path | None = settings.data_dir / "catalog" / "copy" if settings.data_dir else None
        self._max_age_seconds = settings.catalog_max_age_seconds
        self._view: View | None = None
        self._epoch = ""
        # Serialised entries by key, for the disk copy: what was received is written, not what was made of it.
        self._packed: dict[str, bytes] = {}
        self._heard_at = time.monotonic()
        self._advanced = asyncio.Event()
        self._copied = 0
        self._has_copy = False
        self._refused_at: float | None = None
        self._refusal_logged_at = -math.inf
        self.key_uses: dict[str, float] = {}
        """When keys were last used, in milliseconds since 1970, by id: what the registry was not told yet."""
        self.stopping = asyncio.Event()
        """Set when the process begins to stop, before calls are drained."""
        self.cannot_start = ""
        """Why not, for the operator; empty if nothing is against it."""

    @property
    def age_seconds(self) -> float:
        """Since the registry was last heard of; since the start, if never."""
        return time.monotonic() - self._heard_at

    @property
    def sequence(self) -> int:
        """How new the view is; 0 before the first."""
        return self._view.sequence if self._view is not None else 0

    def usable_view(self) -> View:
        """The newest view.

        :raises Unavailable: `CATALOG_NOT_READY` before the first; `CATALOG_STALE` if older than the operator allows;
            `CATALOG_REFUSED` if the registry has refused this process's key for 30 s
        """
        if self._view is None:
            raise Unavailable(
                "this service has not reached the registry yet", reason="CATALOG_NOT_READY", retry_after_seconds=1
            )
        if self._max_age_seconds and time.monotonic() - self._heard_at > self._max_age_seconds:
            raise Unavailable(
                "this service lost the registry longer ago than TURNOUT_CATALOG_MAX_AGE_SECONDS allows",
                reason="CATALOG_STALE",
                retry_after_seconds=1,
            )
        if self._refused_at is not None and time.monotonic() - self._refused_at > REFUSED_GRACE_SECONDS:
            raise Unavailable(
                "the registry refuses this service's key; its operator must mend TURNOUT_SERVICE_KEY",
                reason="CATALOG_REFUSED",
                retry_after_seconds=REFUSED_LOG_SECONDS,
            )
        return self._view

    async def reach(self, sequence: int, call: Call | None = None) -> None:
        """Wait until the view holds what the registry committed as `sequence`.

        :raises Unavailable: `CATALOG_BEHIND` if it takes longer than 2 s, or than the call has left
        """
        if self._view is not None and self._view.sequence >= sequence:
            return
        limit = REACH_SECONDS if call is None else min(REACH_SECONDS, call.remaining_seconds())
        try:
            async with asyncio.timeout(limit):
                while self._view is None or self._view.sequence < sequence:
                    await self._advanced.wait()
        except TimeoutError:
            raise Unavailable(
                f"this service has not seen the registry's change {sequence} yet; try again",
                reason="CATALOG_BEHIND",
                retry_after_seconds=1,
            ) from None

    def load_copy(self) -> None:
        """Start from the disk copy, if there is one that can be trusted."""
        found = disk.read(self._path) if self._path else None
        if found is None:
            return
        self._epoch, sequence, entries = found
        self._install(sequence, entries, whole=True)
        self._copied, self._has_copy = sequence, True
        log.info("serving from the catalog's disk copy", extra={"sequence": sequence, "entries": len(entries)})

    async def follow(self, channel: grpc.aio.Channel, ready: asyncio.Event, wired: asyncio.Event) -> None:
        """Follow the registry. Failures are logged once per kind and retried with growing pauses.

        Returns only if the registry refuses this process's key before the process was ready: `cannot_start` says so.
        """
        await wired.wait()
        if self._view is not None:
            # The copy is old: a registry that is there is worth a moment, one that is not is not needed.
            from_copy = asyncio.get_running_loop().call_later(COPY_GRACE_SECONDS, ready.set)
        else:
            from_copy = None
        stub: rpc.CatalogServiceAsyncStub = rpc.CatalogServiceStub(channel)
        pause, last_failure = 0.05, ""
        while True:
            reason = ""
            try:
                async for _ in self._session(stub):
                    ready.set()
                    self._refused_at = None
                    pause = 0.05
                    if last_failure:
                        last_failure = ""
                        log.info("following the registry again")
                failure = "the stream ended"
            except grpc.aio.AioRpcError as error:
                reason = status.reason_of(error)
                failure = reason or error.code().name
            except (TimeoutError, DamagedStream) as error:
                failure = str(error) or "silence"
            if reason in _REFUSALS:
                if not ready.is_set():
                    if from_copy is not None:
                        from_copy.cancel()
                    self.cannot_start = (
                        f"the registry refuses TURNOUT_SERVICE_KEY ({reason}): give the key with catalog:watch that it "
                        "knows, such as its TURNOUT_REGISTRY_BOOTSTRAP_SERVICE_KEY"
                    )
                    return
                self._note_refusal(reason)
            elif failure != last_failure:
                log.warning("the registry cannot be followed; retrying", extra={"failure": failure})
            last_failure = failure
            await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311  # jitter, no secret
            pause = min(pause * 2, _MAX_BACKOFF_SECONDS)

    def _note_refusal(self, reason: str) -> None:
        now = time.monotonic()
        if self._refused_at is None:
            self._refused_at, self._refusal_logged_at = now, -math.inf
        if now - self._refusal_logged_at >= REFUSED_LOG_SECONDS:
            self._refusal_logged_at = now
            left = max(0.0, REFUSED_GRACE_SECONDS - (now - self._refused_at))
            log.error(
                "the registry refuses this process's key; calls end soon unless TURNOUT_SERVICE_KEY is mended",
                extra={"reason": reason, "serves_for_seconds": round(left)},
            )

    async def _session(self, stub: rpc.CatalogServiceAsyncStub) -> AsyncIterator[None]:
        """One stream from opening to end; yields once whenever the view is known to be current."""
        resume = self._view.sequence if self._view is not None else 0
        request = service_pb.WatchCatalogRequest(after_sequence=resume, epoch=self._epoch)
        stream = stub.WatchCatalog(request, metadata=(("authorization", f"Bearer {self._service_key}"),))
        begin: service_pb.CatalogBegin | None = None
        entries: list[pb.CatalogEntry] = []
        digest = blake2b(digest_size=32)
        is_current = False
        try:
            while True:
                async with asyncio.timeout(SILENCE_SECONDS):
                    message = await stream.read()
                if not isinstance(message, service_pb.WatchCatalogResponse):  # grpc.aio.EOF
                    # Surfaces the status: an ended stream without one would look like a success.
                    if await stream.code() is not grpc.StatusCode.OK:
                        raise grpc.aio.AioRpcError(
                            await stream.code(),
                            await stream.initial_metadata(),
                            await stream.trailing_metadata(),
                            await stream.details(),
                        )
                    return
                event = message.WhichOneof("event")
                if is_current or event in _TELLING:
                    self._heard_at = time.monotonic()
                match event:
                    case "begin":
                        begin, entries, digest = message.begin, [], blake2b(digest_size=32)
                    case "chunk":
                        for entry in message.chunk.entries:
                            digest.update(entry.SerializeToString(deterministic=True))
                            entries.append(entry)
                    case "end":
                        if begin is None or digest.digest() != message.end.digest:
                            raise DamagedStream("a snapshot did not arrive whole")
                        self._epoch = begin.epoch
                        self._install(begin.sequence, entries, whole=True)
                        entries = []
                        is_current = True
                        yield
                    case "resumed":
                        is_current = True
                        yield
                    case "change":
                        self._install(message.change.sequence, message.change.entries, whole=False)
                        yield
                    case "heartbeat":
                        if self._view is not None and message.heartbeat.sequence != self._view.sequence:
                            raise DamagedStream("changes are missing")
                        # Before its snapshot a heartbeat only says that many others take theirs.
                        if is_current:
                            yield
        finally:
            stream.cancel()

    async def report_key_uses(
        self, channel: grpc.aio.Channel, wired: asyncio.Event, every_seconds: float = KEY_USES_SECONDS
    ) -> None:
        """Tell the registry when keys were used, about every `every_seconds`, and once more when the process stops, for
        a second at most. A failure is logged once, and tried again then."""
        await wired.wait()
        last_failure = ""
        while True:
            with contextlib.suppress(TimeoutError):
                # So that not all come at once.
                await asyncio.wait_for(self.stopping.wait(), every_seconds * (0.75 + random.random() / 2))  # noqa: S311
            if self.stopping.is_set():
                await self._tell_last_key_uses(channel)
                # It is taken down with everything else: work that ends by itself would be a bug.
                await asyncio.Event().wait()
            try:
                await self.tell_key_uses(channel)
            except grpc.aio.AioRpcError as error:
                failure = status.reason_of(error) or error.code().name
                if failure != last_failure:
                    log.warning("the registry was not told when keys were used; retrying", extra={"failure": failure})
                last_failure = failure
            else:
                last_failure = ""

    async def _tell_last_key_uses(self, channel: grpc.aio.Channel) -> None:
        try:
            async with asyncio.timeout(_TELL_LAST_SECONDS):
                await self.tell_key_uses(channel)
        except (grpc.aio.AioRpcError, TimeoutError):
            log.info("the registry is not told when keys were used last", extra={"keys": len(self.key_uses)})

    async def tell_key_uses(self, channel: grpc.aio.Channel) -> None:
        """Tell the registry what it was not told yet of :attr:`key_uses`.

        :raises grpc.aio.AioRpcError: if it cannot be told; what is left is kept, as far as the keys are still there
        """
        untold, self.key_uses = self.key_uses, {}
        stub: rpc.CatalogServiceAsyncStub = rpc.CatalogServiceStub(channel)
        try:
            while untold:
                part = list(islice(untold.items(), _MAX_USES_PER_CALL))
                request = service_pb.ReportKeyUsesRequest()
                for uid, used_ms in part:
                    request.uses.add(api_key=uid).last_use_time.FromMilliseconds(int(used_ms))
                await stub.ReportKeyUses(
                    request, metadata=(("authorization", f"Bearer {self._service_key}"),), timeout=_TELL_SECONDS
                )
                for uid, _ in part:
                    del untold[uid]
        finally:
            # No more than there are keys, however long the registry is away.
            known = self._view or View()
            left = {uid: used_ms for uid, used_ms in untold.items() if known.api_key(uid) is not None}
            self.key_uses = left | self.key_uses

    def _install(self, sequence: int, entries: Iterable[pb.CatalogEntry], *, whole: bool) -> None:
        changes = []
        if whole:
            self._packed = {}
        for entry in entries:
            changes.append(change_from_proto(entry))
            if entry.WhichOneof("value") is None:
                self._packed.pop(entry.key, None)
            else:
                self._packed[entry.key] = entry.SerializeToString()
        base = View() if whole or self._view is None else self._view
        self._view = base.with_changes(sequence, changes)
        self._advanced.set()
        self._advanced = asyncio.Event()

    async def keep_copy(self) -> None:
        """Keep the disk copy about a second behind the view. A disk that cannot be written is logged, not fatal."""
        if self._path is None:
            await asyncio.Event().wait()
            return
        while True:
            if self._view is None or (self._has_copy and self._view.sequence == self._copied):
                await self._advanced.wait()
            sequence = self._view.sequence if self._view is not None else 0
            entries = list(self._packed.values())
            try:
                await asyncio.to_thread(disk.write, self._path, epoch=self._epoch, sequence=sequence, entries=entries)
                self._copied, self._has_copy = sequence, True
            except OSError as error:
                log.warning("the catalog's disk copy cannot be written", extra={"error": error.strerror})
            await asyncio.sleep(_COPY_DELAY_SECONDS)


class DamagedStream(Exception):
    """What arrived is not what was sent; only a new stream helps."""


@asynccontextmanager
async def catalog(runtime: Runtime) -> AsyncIterator[Catalog]:
    """The process's catalog, following the registry; made once (`await runtime.shared(watch.catalog)`).

    :raises CannotStart: when it is left, if the registry refused this process's key before the process was ready
    """
    followed = Catalog(config.load(CatalogConfig))
    followed.load_copy()
    channel = await runtime.channel("registry")
    ready = runtime.ready_when("the catalog")
    async with (
        runtime.background("catalog: follow", _follow(followed, channel, ready, runtime)),
        runtime.background("catalog: disk copy", followed.keep_copy()),
        runtime.background("catalog: key uses", followed.report_key_uses(channel, runtime.wired)),
    ):
        runtime.when_stopping(followed.stopping.set)
        yield followed
    if followed.cannot_start:
        raise CannotStart(followed.cannot_start)


async def _follow(followed: Catalog, channel: grpc.aio.Channel, ready: asyncio.Event, runtime: Runtime) -> None:
    await followed.follow(channel, ready, runtime.wired)
    # It cannot start: no bug, so no work that ended by itself. The sentence is said when everything is taken down.
    runtime.stop()
    await asyncio.Event().wait()
