from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kit.errors import CannotStart
from tests.services.inference.artifacts import write
from tests.services.inference.conftest import model_entry, pieces_of


@pytest.mark.parametrize("folder", ["", "absent"])
async def test_a_start_without_a_folder_for_artifacts_names_the_setting(
    start_room: Callable[[], Any], environment: pytest.MonkeyPatch, folder: str, tmp_path: Path
) -> None:
    environment.setenv("TURNOUT_INFERENCE_ARTIFACTS_DIR", folder and str(tmp_path / folder))
    with pytest.raises(CannotStart, match="TURNOUT_INFERENCE_ARTIFACTS_DIR"):
        async with start_room():
            pass


async def test_the_process_is_ready_with_its_first_view(room: Any) -> None:
    await asyncio.wait_for(room.runtime.ready_when("the models").wait(), 10)


async def test_a_restart_serves_what_was_uploaded_before(start_room: Callable[[], Any], tmp_path: Path) -> None:
    manifest = write(tmp_path / "made")
    async with start_room() as room:
        await room.upload(pieces_of(tmp_path / "made"))
    async with start_room() as room:
        room.manifests[1] = manifest
        await room.put(model_entry(1, manifest.digest))
        await room.deploy(1)
        assert (await room.recommend()).items


async def test_a_start_removes_what_a_dead_process_was_taking_in(start_room: Callable[[], Any], tmp_path: Path) -> None:
    left = tmp_path / "artifacts" / "incoming" / "inc_old"
    left.mkdir(parents=True)
    (left / "rest").write_bytes(b"just now")
    async with start_room():
        assert not left.exists()


async def test_a_running_process_removes_what_another_left(
    start_room: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.inference.artifacts.SWEEP_SECONDS", 0.01)
    async with start_room() as room:
        (room.artifacts / "incoming" / "inc_left").mkdir()
        await room.until_nothing_comes_in()
