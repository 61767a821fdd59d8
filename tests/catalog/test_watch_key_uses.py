"""What the follower tells back: when keys were used."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import grpc
import pytest

from catalog.watch import Catalog
from kit.errors import Unavailable

UIDS = ["a" * 12, "b" * 12]


@pytest.fixture
async def catalog(following: Any) -> Any:
    """A catalog that knows two keys."""
    following.registry.send_snapshot(1, [following.key_entry(uid) for uid in UIDS])
    async with following.catalog() as followed:
        await followed.reach(1)
        yield followed


async def test_what_was_told_is_not_told_again(following: Any, catalog: Catalog) -> None:
    catalog.key_uses |= {UIDS[0]: 1500.7, UIDS[1]: 2000.0}
    await catalog.tell_key_uses(following.channel)
    await catalog.tell_key_uses(following.channel)
    catalog.key_uses[UIDS[1]] = 3000.0
    await catalog.tell_key_uses(following.channel)

    assert following.registry.reports == [{UIDS[0]: 1500, UIDS[1]: 2000}, {UIDS[1]: 3000}]
    assert catalog.key_uses == {}


async def test_thousands_of_keys_are_told_a_thousand_at_a_time(following: Any, catalog: Catalog) -> None:
    uses = {f"{number:012d}": float(number) for number in range(2500)}
    catalog.key_uses |= uses
    await catalog.tell_key_uses(following.channel)

    assert [len(report) for report in following.registry.reports] == [1000, 1000, 500]
    assert {uid: used for report in following.registry.reports for uid, used in report.items()} == uses


async def test_what_could_not_be_told_is_kept_for_keys_that_are_there_and_yields_to_a_later_use(
    following: Any, catalog: Catalog
) -> None:
    catalog.key_uses |= {UIDS[0]: 1000.0, UIDS[1]: 2000.0, "g" * 12: 3000.0}
    following.registry.report_failures = [Unavailable("no", reason="DATABASE_UNAVAILABLE")]
    telling = asyncio.create_task(catalog.tell_key_uses(following.channel))
    await asyncio.sleep(0)  # it has begun: a call comes in while the report is under way
    catalog.key_uses[UIDS[0]] = 9000.0
    with pytest.raises(grpc.aio.AioRpcError):
        await telling

    assert catalog.key_uses == {UIDS[0]: 9000.0, UIDS[1]: 2000.0}


async def test_a_registry_that_does_not_listen_is_told_later_and_logged_once(
    following: Any, catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [Unavailable("no", reason="DATABASE_UNAVAILABLE") for _ in range(5)]
    following.registry.report_failures = list(failures)
    catalog.key_uses[UIDS[0]] = 1000.0
    wired = asyncio.Event()
    wired.set()
    with caplog.at_level(logging.WARNING, "catalog.watch"):
        work = asyncio.create_task(catalog.report_key_uses(following.channel, wired, every_seconds=0.01))
        async with asyncio.timeout(10):
            while not following.registry.reports:
                await asyncio.sleep(0.01)
    work.cancel()

    assert following.registry.reports == [{UIDS[0]: 1000}]
    assert not following.registry.report_failures
    assert [record.failure for record in caplog.records] == ["DATABASE_UNAVAILABLE"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_process_that_stops_tells_once_more(following: Any, catalog: Catalog, is_there: bool) -> None:
    catalog.key_uses[UIDS[0]] = 1000.0
    wired = asyncio.Event()
    wired.set()
    async with grpc.aio.insecure_channel("127.0.0.1:1") as nowhere:
        work = asyncio.create_task(catalog.report_key_uses(following.channel if is_there else nowhere, wired))
        catalog.stopping.set()
        async with asyncio.timeout(10):
            while is_there and not following.registry.reports:
                await asyncio.sleep(0.01)
        done, _ = await asyncio.wait({work}, timeout=1.5 if not is_there else 0.1)
        assert not done, "it waits to be taken down"
        work.cancel()
        await asyncio.wait({work})

    assert following.registry.reports == ([{UIDS[0]: 1000}] if is_there else [])
    assert catalog.key_uses == ({} if is_there else {UIDS[0]: 1000.0})
