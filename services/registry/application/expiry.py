"""Use case of the versions that nobody uses any more: they are deleted."""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from kit.errors import Conflict, Unavailable
from services.registry.ports import Clock, Store

log = logging.getLogger(__name__)

BATCH_VERSIONS: Final = 500
"""Deleted in one transaction: other writers wait for it."""
SWEEP_SECONDS: Final = 3600.0
FIRST_SWEEP_SECONDS: Final = 60.0
"""After the start, at the latest: a registry that is restarted often sweeps too."""
RETRY_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Expiry:
    """Deletes what no revision uses and nobody has put or run for a while."""

    store: Store
    now: Clock
    after: timedelta

    async def sweep(self) -> int:
        """Delete every version that is due, batch by batch.

        Each batch is deleted under the writers' lock: whoever names a version in a new revision finds it and keeps it,
        or does not find it. A call that runs one meanwhile keeps it, or makes it known anew. Several registries may
        sweep at once.

        :return: how many
        :raises Unavailable: the database is not there; what was deleted stays so
        :raises Conflict: another transaction was in the way; the same
        """
        before, deleted = self.now() - self.after, 0
        while True:
            # Without the lock first: mostly there is nothing to do.
            async with self.store.reading() as tx:
                if not await tx.has_unused_versions(before):
                    return deleted
            async with self.store.writing() as writing:
                batch = await writing.delete_unused_versions(before, limit=BATCH_VERSIONS)
            deleted += batch
            if not batch:
                # A call has just run what was found: the next sweep will see.
                return deleted

    async def run(self, *, first_seconds: float = FIRST_SWEEP_SECONDS, every_seconds: float = SWEEP_SECONDS) -> None:
        """Sweep for ever, at times that differ between processes.

        :param first_seconds: of the first sweep, at the latest
        :param every_seconds: between two, give or take a quarter
        """
        pause = first_seconds * random.random()  # noqa: S311  # jitter, no secret
        while True:
            await asyncio.sleep(pause)
            try:
                if deleted := await self.sweep():
                    log.info("unused versions are deleted", extra={"versions": deleted})
                pause = every_seconds * random.uniform(0.75, 1.25)  # noqa: S311  # jitter, no secret
            except (Unavailable, Conflict) as error:
                log.warning("the expiry of versions waits", extra={"reason": error.reason})
                pause = RETRY_SECONDS * random.uniform(0.5, 1)  # noqa: S311  # jitter, no secret
