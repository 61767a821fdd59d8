from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from catalog import keys
from kit.errors import CannotStart
from turnout.registry.v1 import api_key_service_pb2 as pb
from turnout.registry.v1 import project_service_pb2

LIST = project_service_pb2.ListProjectsRequest()


async def all_keys(client: Any) -> list[Any]:
    return list((await client.call("ListApiKeys", pb.ListApiKeysRequest(parent="projects/-"))).api_keys)


async def test_an_installation_has_its_first_keys_from_its_settings(
    own_database: str, new_keys: Any, start: Any
) -> None:
    async with start(own_database, new_keys()) as registry:
        found = await all_keys(registry.platform)

    assert {(key.display_name, tuple(key.scopes)) for key in found} == {
        ("bootstrap platform key", ("platform:admin",)),
        ("bootstrap service key", ("catalog:credentials", "catalog:watch", "models:register")),
    }


async def test_another_start_with_the_same_settings_changes_nothing(
    own_database: str, new_keys: Any, start: Any, state_of: Any
) -> None:
    bootstrap = new_keys()
    async with start(own_database, bootstrap):
        pass
    before = await state_of(own_database)
    async with start(own_database, bootstrap):
        pass

    assert await state_of(own_database) == before


async def test_a_changed_setting_replaces_the_key_and_the_former_one_is_revoked(
    own_database: str, new_keys: Any, start: Any
) -> None:
    former, later = new_keys(), new_keys()
    async with start(own_database, former):
        pass
    async with start(own_database, later) as registry:
        found = {key.uid: key.HasField("revoke_time") for key in await all_keys(registry.platform)}
        stranger = type(registry.platform)(registry.channel, former.platform)
        error = await stranger.fails("ListProjects", LIST)

    assert found == {
        text.split("_")[1]: revoked
        for pair, revoked in ((former, True), (later, False))
        for text in (pair.platform, pair.service)
    }
    assert error.reason == "KEY_UNKNOWN"


async def test_a_revoked_bootstrap_key_stays_revoked_over_restarts(
    own_database: str, new_keys: Any, start: Any
) -> None:
    bootstrap = new_keys()
    uid = bootstrap.platform.split("_")[1]
    async with start(own_database, bootstrap) as registry:
        other = await registry.client("-", ("platform:admin",))
        await other.call("RevokeApiKey", pb.RevokeApiKeyRequest(name=f"projects/-/apiKeys/{uid}"))
    async with start(own_database, bootstrap) as registry:
        again = type(other)(registry.channel, other.key)
        found = await again.call("GetApiKey", pb.GetApiKeyRequest(name=f"projects/-/apiKeys/{uid}"))

    assert found.HasField("revoke_time")


async def test_an_emptied_setting_leaves_its_key_in_force(own_database: str, new_keys: Any, start: Any) -> None:
    bootstrap = new_keys()
    async with start(own_database, bootstrap):
        pass
    async with start(own_database, bootstrap, TURNOUT_REGISTRY_BOOTSTRAP_PLATFORM_KEY="") as registry:
        await registry.platform.call("ListProjects", LIST)


@pytest.mark.parametrize("case", ["no key", "the same key twice", "another key's id"])
async def test_a_setting_that_cannot_be_a_first_key_stops_the_start_and_names_the_setting(
    own_database: str, new_keys: Any, start: Any, case: str
) -> None:
    bootstrap = new_keys()
    async with start(own_database, bootstrap) as registry:
        other = await registry.client("-", ("platform:admin",))
    setting = {"no key": "tk_nonsense", "the same key twice": bootstrap.service, "another key's id": other.key}[case]

    with pytest.raises(CannotStart) as failure:
        async with start(own_database, bootstrap, TURNOUT_REGISTRY_BOOTSTRAP_PLATFORM_KEY=setting):
            pass

    assert "TURNOUT_REGISTRY_BOOTSTRAP_PLATFORM_KEY" in str(failure.value)
    assert setting not in str(failure.value)


async def test_a_restart_with_an_old_copy_on_disk_and_changed_keys_follows_itself_again(
    own_database: str, new_keys: Any, start: Any, tmp_path: Path, eventually: Any
) -> None:
    former, later = new_keys(), new_keys()

    async def copied() -> bool:
        return (tmp_path / "catalog" / "copy").exists()

    async with start(own_database, former, TURNOUT_DATA_DIR=str(tmp_path)):
        await eventually(copied, "a copy on disk")
    async with start(own_database, later, TURNOUT_DATA_DIR=str(tmp_path)) as registry:

        async def knows_the_new_key() -> bool:
            uid, _ = keys.parse(later.platform)
            return bool(registry.catalog.usable_view().api_key(uid))

        await eventually(knows_the_new_key, "the view holds the new key")
        await registry.platform.call("ListProjects", LIST)


async def test_a_key_of_an_older_version_gets_what_this_one_needs(own_database: str, new_keys: Any, start: Any) -> None:
    bootstrap = new_keys()
    async with start(own_database, bootstrap):
        pass
    engine = create_async_engine(own_database)
    async with engine.begin() as connection:
        await connection.execute(text("UPDATE registry.api_keys SET scopes = '{catalog:watch}' WHERE bootstrap <> ''"))
    await engine.dispose()

    async with start(own_database, bootstrap) as registry:
        found = await all_keys(registry.platform)

    assert ("catalog:credentials", "catalog:watch", "models:register") in {tuple(key.scopes) for key in found}
