"""Rotation of the keys that providers' credentials are encrypted under."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kit.errors import Precondition, Unavailable
from kit.secrets import Envelope, Keyring, open_envelope
from services.registry.application import credentials
from services.registry.store.postgres import PostgresWriting
from turnout.registry.v1 import provider_pb2
from turnout.registry.v1 import provider_service_pb2 as pb

OLD, NEW = Keyring.generate_setting("old"), Keyring.generate_setting("new")


async def add_provider(client: Any, slug: str, credential: str) -> Any:
    provider = provider_pb2.Provider(kind=provider_pb2.PROVIDER_KIND_OPENAI, credential=credential)
    request = pb.CreateProviderRequest(parent=f"projects/{client.project}", provider_id=slug, provider=provider)
    return await client.call("CreateProvider", request)


async def rotate(client: Any, batch_size: int = 0) -> pb.RotateCredentialsResponse:
    answer: pb.RotateCredentialsResponse = await client.call(
        "RotateCredentials", pb.RotateCredentialsRequest(batch_size=batch_size)
    )
    return answer


async def test_every_credential_of_every_project_goes_under_the_first_key_while_each_state_opens(
    own_database: str, new_keys: Any, start: Any, state_of: Any
) -> None:
    keys = new_keys()
    made: dict[str, str] = {}
    async with start(own_database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=OLD) as registry:
        for _ in range(2):
            shop = await registry.new_project()
            await add_provider(shop, "none", "")
            for number in range(3):
                credential = f"sk-{len(made)}"
                made[(await add_provider(shop, f"p{number}", credential)).uid] = credential
        gone = pb.ArchiveProviderRequest(name=f"projects/{shop.project}/providers/p0")
        archived = (await shop.call("ArchiveProvider", gone)).uid
    providers = [dict(row) for row in (await state_of(own_database))["providers"]]

    async with start(own_database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=f"{NEW},{OLD}") as registry:
        both, ended = Keyring.parse(f"{NEW},{OLD}"), asyncio.Event()
        seen: set[tuple[str, str]] = set()

        async def follow() -> None:
            """As an executor that holds both keys: opens what it is told, in every state that it is told of."""
            while not ended.is_set():
                view = registry.catalog.usable_view()
                for uid, credential in made.items():
                    found = view.credential(uid)
                    if uid == archived:
                        assert found is None
                        continue
                    envelope = Envelope.from_bytes(found.envelope)
                    assert open_envelope(both, envelope, context=uid.encode()).reveal() == credential
                    seen.add((uid, envelope.key_id))
                await asyncio.sleep(0)

        await registry.catalog.reach(1)
        following = asyncio.create_task(follow())
        while len(seen) < 5:
            await asyncio.sleep(0)
        counts = []
        while True:
            answer = await rotate(registry.platform, 4)
            counts.append((answer.rotated_count, answer.remaining_count))
            await registry.catalog.reach(registry.platform.sequence)
            assert answer.key_id == "new"
            if not answer.remaining_count:
                break
        while len(seen) < 10:
            assert not following.done()
            await asyncio.sleep(0)
        ended.set()
        await following
        again = await rotate(registry.platform)
        sequence = registry.platform.sequence

    assert counts == [(4, 2), (2, 0)]
    assert (again.rotated_count, again.remaining_count, again.key_id) == (0, 0, "new")
    assert sequence == registry.platform.sequence
    for before, after in zip(providers, (await state_of(own_database))["providers"], strict=True):
        changed = {name for name in before if before[name] != after[name]}
        assert changed == ({"envelope"} if before["envelope"] else set())

    async with start(own_database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=NEW) as registry:
        shop = await registry.client(shop.project, ("registry:read", "registry:write"))
        await shop.call("UnarchiveProvider", pb.UnarchiveProviderRequest(name=gone.name))
        await registry.catalog.reach(shop.sequence)
        view = registry.catalog.usable_view()
        for uid, credential in made.items():
            envelope = Envelope.from_bytes(view.credential(uid).envelope)
            assert open_envelope(Keyring.parse(NEW), envelope, context=uid.encode()).reveal() == credential
            with pytest.raises(Precondition):
                open_envelope(Keyring.parse(NEW), envelope, context=b"prv_other")


async def test_what_cannot_be_opened_is_left_behind_and_named_at_the_end(
    own_database: str, new_keys: Any, start: Any, state_of: Any
) -> None:
    keys, lost = new_keys(), Keyring.generate_setting("lost")
    async with start(own_database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=lost) as registry:
        shop = await registry.new_project()
        await add_provider(shop, "unreadable", "sk-1")
    async with start(own_database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=OLD) as registry:
        shop = await registry.client(shop.project, ("registry:write",))
        for number in range(3):
            await add_provider(shop, f"p{number}", "sk-2")
    async with start(own_database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=f"{NEW},{OLD}") as registry:
        answers = [await rotate(registry.platform, 2) for _ in range(2)]
        before = await state_of(own_database)
        request = pb.RotateCredentialsRequest()
        error = await registry.platform.fails("RotateCredentials", request)
        assert await state_of(own_database) == before

    assert [(answer.rotated_count, answer.remaining_count) for answer in answers] == [(2, 2), (1, 1)]
    assert isinstance(error, Precondition)
    assert error.reason == "CREDENTIALS_UNREADABLE"
    assert f"projects/{shop.project}/providers/unreadable" in error.message
    assert "'lost'" in error.message
    assert "sk-1" not in error.message


async def test_without_a_key_there_is_nothing_to_rotate_to(own_database: str, new_keys: Any, start: Any) -> None:
    async with start(own_database, new_keys(), TURNOUT_KEY_ENCRYPTION_KEYS="") as registry:
        error = await registry.platform.fails("RotateCredentials", pb.RotateCredentialsRequest())

    assert error.reason == "KEY_ENCRYPTION_KEY_MISSING"


async def test_a_key_id_that_begins_like_another_is_another(own_database: str, new_keys: Any, start: Any) -> None:
    keys, longer = new_keys(), Keyring.generate_setting("new2")
    async with start(own_database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=longer) as registry:
        await add_provider(await registry.new_project(), "p", "sk-1")
    async with start(own_database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=f"{NEW},{longer}") as registry:
        answer = await rotate(registry.platform)

    assert (answer.rotated_count, answer.remaining_count) == (1, 0)


async def test_a_call_looks_at_some_only_and_the_next_goes_on_behind_them(
    own_database: str, new_keys: Any, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "_MAX_LOOKED", 2)
    keys, lost = new_keys(), Keyring.generate_setting("lost")
    async with start(own_database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=lost) as registry:
        shop = await registry.new_project()
        for number in range(5):
            await add_provider(shop, f"unreadable-{number}", "sk-1")
    async with start(own_database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=OLD) as registry:
        shop = await registry.client(shop.project, ("registry:write",))
        await add_provider(shop, "readable", "sk-2")
    async with start(own_database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=f"{NEW},{OLD}") as registry:
        answers = [await rotate(registry.platform) for _ in range(3)]
        error = await registry.platform.fails("RotateCredentials", pb.RotateCredentialsRequest())

    assert [(each.rotated_count, each.remaining_count) for each in answers] == [(0, 6), (0, 6), (1, 5)]
    assert error.reason == "CREDENTIALS_UNREADABLE"
    assert error.message.startswith("5 credentials")


@asynccontextmanager
async def with_one_lost(database: str, keys: Any, start: Any) -> AsyncIterator[Any]:
    """A registry that holds the keys of three credentials, and not of a fourth."""
    lost = Keyring.generate_setting("lost")
    async with start(database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=lost) as registry:
        shop = await registry.new_project()
        await add_provider(shop, "unreadable", "sk-1")
    async with start(database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=OLD) as registry:
        shop = await registry.client(shop.project, ("registry:write",))
        for number in range(3):
            await add_provider(shop, f"p{number}", "sk-2")
    async with start(database, keys, TURNOUT_KEY_ENCRYPTION_KEYS=f"{NEW},{OLD}") as registry:
        yield registry


async def test_what_a_failed_write_was_to_encrypt_is_encrypted_by_the_next_call(
    own_database: str, new_keys: Any, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with with_one_lost(own_database, new_keys(), start) as registry:

        async def fail(*_: Any) -> Any:
            raise Unavailable("the database is away", reason="DATABASE_UNAVAILABLE")

        with monkeypatch.context() as broken:
            broken.setattr(PostgresWriting, "replace_envelopes", fail)
            failed = await registry.platform.fails("RotateCredentials", pb.RotateCredentialsRequest(batch_size=3))
        answer = await rotate(registry.platform)
        error = await registry.platform.fails("RotateCredentials", pb.RotateCredentialsRequest())

    assert failed.reason == "DATABASE_UNAVAILABLE"
    assert (answer.rotated_count, answer.remaining_count) == (3, 1)
    assert error.message.startswith("1 credentials")


async def test_calls_at_the_same_time_take_turns(own_database: str, new_keys: Any, start: Any) -> None:
    async with with_one_lost(own_database, new_keys(), start) as registry:
        answers = await asyncio.gather(*(rotate(registry.platform, 1) for _ in range(3)))
        error = await registry.platform.fails("RotateCredentials", pb.RotateCredentialsRequest())

    assert sorted((each.rotated_count, each.remaining_count) for each in answers) == [(1, 1), (1, 2), (1, 3)]
    assert error.reason == "CREDENTIALS_UNREADABLE"
    assert error.message.startswith("1 credentials")
