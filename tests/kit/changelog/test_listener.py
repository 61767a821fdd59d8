from __future__ import annotations

import asyncio

import asyncpg

from kit.changelog import ChangeLog
from kit.database import Sessions
from tests.kit.changelog.logs import append, collect, eventually


async def test_the_death_of_the_listening_connection_loses_nothing(
    url: str, sessions: Sessions, log: ChangeLog
) -> None:
    admin = await asyncpg.connect(url.replace("+asyncpg", ""))
    kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'turnout-listen%'"

    async def killed() -> bool:
        return bool(await admin.fetchval(kill))

    reading = asyncio.create_task(collect(log, sessions, url, 0, 30))
    for number in range(30):
        if number in (5, 15):
            await eventually(killed, "a listening connection")
        await append(sessions, log, ("key", b"%d" % number))

    assert [change.sequence for change in await reading] == list(range(1, 31))
    await admin.close()


async def test_a_notification_wakes_a_reader_long_before_its_poll(url: str, sessions: Sessions, log: ChangeLog) -> None:
    admin = await asyncpg.connect(url.replace("+asyncpg", ""))

    async def listening() -> bool:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'"
        return bool(await admin.fetchval(asked))

    reading = asyncio.create_task(collect(log, sessions, url, 0, 1, poll_seconds=60))
    await eventually(listening, "LISTEN")
    await append(sessions, log, ("key", b"value"))

    async with asyncio.timeout(5):
        assert (await reading)[0].entries == (("key", b"value"),)
    await admin.close()


async def test_without_notifications_the_poll_finds_the_change(sessions: Sessions, log: ChangeLog) -> None:
    nowhere = "postgresql+asyncpg://postgres@127.0.0.1:1/nowhere"
    reading = asyncio.create_task(collect(log, sessions, nowhere, 0, 2, poll_seconds=0.05))
    await append(sessions, log, ("key", b"1"))
    await append(sessions, log, ("key", b"2"))

    assert [change.sequence for change in await reading] == [1, 2]
