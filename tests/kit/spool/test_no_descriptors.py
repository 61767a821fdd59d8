"""A process that has no descriptor left for a moment."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EMFILE
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kit.spool import Event, lock

if TYPE_CHECKING:
    from tests.kit.spool.conftest import Broker, MakeSpool, Running, Until


@contextmanager
def no_descriptors() -> Iterator[None]:
    """No file can be opened, as when connections have taken all descriptors that the process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_events_wait_while_the_process_has_no_descriptor_to_read_them(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool(adopt_interval_seconds=60)
    async with running(spool, broker):
        spool.append(Event("subject", b"before"))
        assert await spool.drain(10)
        with no_descriptors():
            spool.append(Event("subject", b"meanwhile"))
            await until(lambda: spool.usage.failed_rounds > 0 or spool.usage.corrupt_segments > 0)
        assert await spool.drain(10)

    assert broker.payloads == [b"before", b"meanwhile"]
    assert spool.usage.corrupt_segments == 0


async def test_a_folder_that_could_not_be_locked_for_a_moment_is_adopted_later(
    make_spool: MakeSpool, broker: Broker, running: Running, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, heir = make_spool(), make_spool()
    dead.append(Event("subject", b"left"))
    dead.close()
    take = lock.take
    failures: list[Path] = []

    def failing_once(folder: Path) -> int | None:
        if not failures:
            failures.append(folder)
            raise OSError(EMFILE, "too many open files")
        return take(folder)

    monkeypatch.setattr(lock, "take", failing_once)
    async with running(heir, broker):
        await until(lambda: broker.payloads == [b"left"], 3)
