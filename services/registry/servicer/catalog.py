"""What followers are told: RPC in, use case, RPC out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from hashlib import blake2b

from kit import calls
from kit.changelog import Change, Event, Feed, Idle, Resumed, SnapshotBegin, SnapshotChunk, SnapshotEnd
from kit.errors import Unauthenticated
from services.registry.application.api_keys import ApiKeys
from services.registry.convert.catalog import CREDENTIAL_PREFIX, api_key_key, entry_from_change
from services.registry.convert.text import time_from_proto
from services.registry.servicer.calling import Context
from turnout.registry.v1 import catalog_service_pb2, catalog_service_pb2_grpc

_CREDENTIALS_SCOPE = "catalog:credentials"


class CatalogServicer(catalog_service_pb2_grpc.CatalogServiceServicer):
    """What other services need of the registry."""

    def __init__(self, feed: Feed, keys: ApiKeys) -> None:
        self._feed = feed
        self._keys = keys

    async def WatchCatalog(
        self, request: catalog_service_pb2.WatchCatalogRequest, context: Context
    ) -> AsyncIterator[catalog_service_pb2.WatchCatalogResponse]:
        stream = _CatalogStream(calls.principal())
        async with contextlib.aclosing(self._feed.watch(request.after_sequence, request.epoch)) as events:
            async for event in events:
                yield stream.message(event)
                stream.check_still_welcome(event)

    async def ReportKeyUses(
        self, request: catalog_service_pb2.ReportKeyUsesRequest, context: Context
    ) -> catalog_service_pb2.ReportKeyUsesResponse:
        await self._keys.report_key_uses(
            (use.api_key, time_from_proto(use.last_use_time, field=f"uses[{index}].last_use_time"))
            for index, use in enumerate(request.uses)
        )
        return catalog_service_pb2.ReportKeyUsesResponse()


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
        """A stream may live for days; its key need not, nor what it may see.

        :raises Unauthenticated: `KEY_REVOKED`; `KEY_CHANGED` if it may do other things now, or until another time
        """
        if not isinstance(event, Change):
            return
        for key, payload in event.entries:
            if key == self._own_key and payload is None:
                raise Unauthenticated("the key of this stream was revoked", reason="KEY_REVOKED")
            if key == self._own_key:
                raise Unauthenticated("the key of this stream was changed; begin another", reason="KEY_CHANGED")

    def _may_see(self, key: str) -> bool:
        return not key.startswith(self._hidden) if self._hidden else True
