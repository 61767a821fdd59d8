"""What followers are told: RPC in, use case, RPC out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from hashlib import blake2b

from kit import calls
from kit.changelog import Change, Event, Feed, Idle, Resumed, SnapshotBegin, SnapshotChunk, SnapshotEnd
from kit.errors import Unauthenticated
from services.registry.convert.catalog import CREDENTIAL_PREFIX, api_key_key, entry_from_change
from services.registry.servicer.calling import Context
from turnout.registry.v1 import catalog_service_pb2, catalog_service_pb2_grpc

_CREDENTIALS_SCOPE = "catalog:credentials"


class CatalogServicer(catalog_service_pb2_grpc.CatalogServiceServicer):
    """What other services need of the registry."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def WatchCatalog(
        self, request: catalog_service_pb2.WatchCatalogRequest, context: Context
    ) -> AsyncIterator[catalog_service_pb2.WatchCatalogResponse]:
        stream = _CatalogStream(calls.principal())
        async with contextlib.aclosing(self._feed.watch(request.after_sequence, request.epoch)) as events:
            async for event in events:
                yield stream.message(event)
                stream.check_still_welcome(event)


class _CatalogStream:
    """One follower's stream: what it may see, and the digest of the snapshot under way."""

    def __init__(self, principal: calls.Principal) -> None:
        self._own_key = api_key_key(principal.key_id)
        self._hidden = () if _CREDENTIALS_SCOPE in principal.scopes else (CREDENTIAL_PREFIX,)
        self._digest = blake2b(digest_size=32)
        self._count = 0

    def message(self, event: Event) -> catalog_service_pb2.WatchCatalogResponse:
        pb = catalog_service_pb2
        match event:
            case SnapshotBegin(head):
                self._digest, self._count = blake2b(digest_size=32), 0
                return pb.WatchCatalogResponse(begin=pb.CatalogBegin(sequence=head.sequence, epoch=head.epoch))
            case SnapshotChunk(entries):
                chunk = pb.CatalogChunk(
                    entries=[entry_from_change(key, payload) for key, payload in entries if self._may_see(key)]
                )
                for entry in chunk.entries:
                    self._digest.update(entry.SerializeToString(deterministic=True))
                self._count += len(chunk.entries)
                return pb.WatchCatalogResponse(chunk=chunk)
            case SnapshotEnd():
                end = pb.CatalogEnd(digest=self._digest.digest(), entry_count=self._count)
                return pb.WatchCatalogResponse(end=end)
            case Resumed(epoch):
                return pb.WatchCatalogResponse(resumed=pb.CatalogResumed(epoch=epoch))
            case Change(sequence, entries):
                # One that hides everything is sent too: a follower counts on every sequence.
                seen = [entry_from_change(key, payload) for key, payload in entries if self._may_see(key)]
                return pb.WatchCatalogResponse(change=pb.CatalogChange(sequence=sequence, entries=seen))
            case Idle(sequence):
                return pb.WatchCatalogResponse(heartbeat=pb.CatalogHeartbeat(sequence=sequence))

    def check_still_welcome(self, event: Event) -> None:
        """A stream may live for days; its key need not.

        :raises Unauthenticated: `KEY_REVOKED`
        """
        if isinstance(event, Change) and (self._own_key, None) in event.entries:
            raise Unauthenticated("the key of this stream was revoked", reason="KEY_REVOKED")

    def _may_see(self, key: str) -> bool:
        return not key.startswith(self._hidden) if self._hidden else True
