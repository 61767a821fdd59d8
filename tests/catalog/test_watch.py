from __future__ import annotations

import asyncio
import itertools
import logging
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from catalog import disk, watch
from catalog.watch import Catalog
from kit.errors import AppError, CannotStart, Denied, Unauthenticated, Unavailable
from kit.interceptors import Chain
from kit.runtime import ProcessOptions, Runtime
from kit.server import Server, ServerOptions
from kit.telemetry import Tracing

REFUSALS = [
    *(Unauthenticated("no", reason=f"KEY_{state}") for state in ("UNKNOWN", "REVOKED", "EXPIRED", "MALFORMED")),
    Denied("no", reason="SCOPE_MISSING"),
]


async def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def _names(catalog: Catalog) -> set[str]:
    return {thing.slug for thing in dict(catalog.usable_view().names).values()}


async def test_a_snapshot_and_then_changes_make_the_view(following: Any) -> None:
    entry = following.project_entry
    following.registry.send_snapshot(5, [entry("a", "one"), entry("b", "two")])
    async with following.catalog() as catalog:
        await catalog.reach(5)
        assert _names(catalog) == {"one", "two"}

        gone = entry("a", "one")
        gone.ClearField("project")
        following.registry.send_change(6, gone, entry("c", "three"))
        await catalog.reach(6)
        assert _names(catalog) == {"two", "three"}


async def test_before_the_first_snapshot_nothing_is_known(following: Any) -> None:
    async with following.catalog() as catalog:
        with pytest.raises(Unavailable) as failure:
            catalog.usable_view()
    assert failure.value.reason == "CATALOG_NOT_READY"


async def test_a_snapshot_that_arrives_torn_is_not_used(following: Any) -> None:
    entry = following.project_entry
    following.registry.send_snapshot(5, [entry("a", "one")], digest=b"x" * 32)
    async with following.catalog() as catalog:
        await _until(lambda: len(following.registry.requests) == 2)
        with pytest.raises(Unavailable):
            catalog.usable_view()
        following.registry.send_snapshot(6, [entry("b", "two")])
        await catalog.reach(6)
        assert _names(catalog) == {"two"}


async def test_after_a_failure_the_stream_resumes_where_it_was(following: Any) -> None:
    entry = following.project_entry
    following.registry.send_snapshot(5, [entry("a", "one")])
    async with following.catalog() as catalog:
        await catalog.reach(5)
        following.registry.script.put_nowait(Unavailable("down", reason="DOWN"))
        await _until(lambda: len(following.registry.requests) == 2)

        assert following.registry.requests[1].after_sequence == 5
        assert following.registry.requests[1].epoch == "epoch"
        following.registry.send_resumed()
        following.registry.send_change(6, entry("b", "two"))
        await catalog.reach(6)
        assert _names(catalog) == {"one", "two"}


async def test_a_heartbeat_ahead_of_the_view_means_a_lost_change(following: Any) -> None:
    following.registry.send_snapshot(5, [following.project_entry("a", "one")])
    async with following.catalog() as catalog:
        await catalog.reach(5)
        following.registry.send_heartbeat(7)
        await _until(lambda: len(following.registry.requests) == 2)
        assert _names(catalog) == {"one"}


async def test_a_heartbeat_before_the_snapshot_keeps_the_stream_and_makes_nobody_ready(following: Any) -> None:
    async with following.catalog() as catalog:
        for _ in range(3):
            following.registry.send_heartbeat(0)
        await _until(following.registry.script.empty)
        assert not following.ready.is_set()
        with pytest.raises(Unavailable):
            catalog.usable_view()
        following.registry.send_snapshot(5, [following.project_entry("a", "one")])
        await catalog.reach(5)
        await asyncio.wait_for(following.ready.wait(), 5)
        assert len(following.registry.requests) == 1


async def test_heartbeats_of_a_registry_that_has_no_snapshot_for_it_make_no_old_view_current(following: Any) -> None:
    following.registry.send_snapshot(5, [following.project_entry("a", "one")])
    async with following.catalog(max_age_seconds=0.3) as catalog:
        await catalog.reach(5)
        following.registry.script.put_nowait(Unavailable("down", reason="DOWN"))
        await _until(lambda: len(following.registry.requests) == 2)

        def is_stale() -> bool:
            following.registry.send_heartbeat(5)
            try:
                catalog.usable_view()
            except Unavailable as error:
                return error.reason == "CATALOG_STALE"
            return False

        await _until(is_stale)
        assert len(following.registry.requests) == 2, "the stream lives on"
        following.registry.send_resumed()
        following.registry.send_heartbeat(5)
        await _until(lambda: not is_stale())


async def test_silence_is_taken_for_death(following: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "SILENCE_SECONDS", 0.1)
    following.registry.send_snapshot(5, [following.project_entry("a", "one")])
    async with following.catalog() as catalog:
        await _until(lambda: len(following.registry.requests) >= 2)
        assert _names(catalog) == {"one"}


async def test_a_restart_without_the_registry_serves_from_the_copy(following: Any, tmp_path: Path) -> None:
    following.registry.send_snapshot(5, [following.project_entry("a", "one")])
    copy = tmp_path / "catalog" / "copy"
    async with following.catalog(tmp_path) as catalog:
        await catalog.reach(5)
        await _until(copy.exists)

    async with following.catalog(tmp_path) as restarted:
        assert _names(restarted) == {"one"}
        await _until(lambda: len(following.registry.requests) == 2)
    assert following.registry.requests[1].after_sequence == 5


async def test_the_copy_follows_the_view_and_only_its_owner_can_read_it(following: Any, tmp_path: Path) -> None:
    following.registry.send_snapshot(5, [following.project_entry("a", "one")])
    copy = tmp_path / "catalog" / "copy"
    async with following.catalog(tmp_path) as catalog:
        await catalog.reach(5)
        following.registry.send_change(6, following.project_entry("b", "two"))

        def sequence_on_disk() -> int:
            found = disk.read(copy)
            return found[1] if found else 0

        await _until(lambda: sequence_on_disk() == 6)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert list(copy.parent.iterdir()) == [copy]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "other format"])
async def test_a_copy_that_cannot_be_trusted_is_discarded(following: Any, tmp_path: Path, damage: str) -> None:
    copy = tmp_path / "catalog" / "copy"
    disk.write(copy, epoch="e", sequence=3, entries=[following.project_entry("a", "one").SerializeToString()])
    good = copy.read_bytes()
    damaged = {
        "flip": good[:-3] + bytes([good[-3] ^ 1]) + good[-2:],
        "cut": good[:-5],
        "empty": b"",
        "other format": good.replace(b"catalog 1", b"catalog 2"),
    }
    copy.write_bytes(damaged[damage])

    async with following.catalog(tmp_path) as catalog:
        with pytest.raises(Unavailable) as failure:
            catalog.usable_view()
    assert failure.value.reason == "CATALOG_NOT_READY"


async def test_a_view_that_is_too_old_is_refused_if_the_operator_says_so(following: Any) -> None:
    following.registry.send_snapshot(5, [following.project_entry("a", "one")])
    async with following.catalog(max_age_seconds=0.2) as catalog:
        await catalog.reach(5)

        def stale() -> bool:
            try:
                catalog.usable_view()
            except Unavailable as error:
                return error.reason == "CATALOG_STALE"
            return False

        await _until(stale)


async def test_waiting_for_a_sequence_that_does_not_come_ends(following: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "REACH_SECONDS", 0.1)
    following.registry.send_snapshot(5, [])
    async with following.catalog() as catalog:
        with pytest.raises(Unavailable) as failure:
            await catalog.reach(9)
    assert failure.value.reason == "CATALOG_BEHIND"


def _reason(catalog: Catalog) -> str:
    """Why there is no view to use; empty if there is one."""
    try:
        catalog.usable_view()
    except Unavailable as error:
        return error.reason
    return ""


@pytest.mark.parametrize("has_copy", [False, True], ids=["no copy", "copy"])
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.reason)
async def test_a_start_whose_key_the_registry_refuses_ends_with_the_settings_name(
    following: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: AppError, has_copy: bool
) -> None:
    if has_copy:
        entries = [following.project_entry("a", "one").SerializeToString()]
        disk.write(tmp_path / "catalog" / "copy", epoch="e", sequence=3, entries=entries)
    monkeypatch.setenv("TURNOUT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TURNOUT_SERVICE_KEY", "refused")
    following.keys.refusal = refusal
    tracing = Tracing(sample_ratio=0, resource={}, exporter=None)
    server = Server(Chain(tracing, ()), ServerOptions("127.0.0.1:0", 10, 300, 0, shares_port=False))
    ready_file = tmp_path / "ready.json"
    options = ProcessOptions("ins", ("executor",), {"registry": following.address}, ready_file, None)

    async def serve() -> None:
        async with asyncio.timeout(10), Runtime(options, server, tracing) as runtime:
            await runtime.shared(watch.catalog)
            await runtime.serve()

    with pytest.raises(CannotStart, match=f"TURNOUT_SERVICE_KEY .{refusal.reason}"):
        await serve()

    assert not ready_file.exists()


@pytest.mark.parametrize("failure", [Unavailable("down", reason="DOWN"), Unauthenticated("no", reason="PROXY")])
async def test_a_start_goes_on_from_its_copy_when_the_registry_only_fails(
    following: Any, tmp_path: Path, failure: AppError
) -> None:
    entries = [following.project_entry("a", "one").SerializeToString()]
    disk.write(tmp_path / "catalog" / "copy", epoch="e", sequence=3, entries=entries)
    following.keys.refusal = failure

    async with following.catalog(tmp_path) as catalog:
        await _until(following.ready.is_set)
        assert _names(catalog) == {"one"}


async def test_a_key_refused_while_serving_is_logged_at_once_borne_for_a_while_and_then_ends_it(
    following: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watch, "REFUSED_LOG_SECONDS", 0.5)
    monkeypatch.setattr(watch, "REFUSED_GRACE_SECONDS", 1.5)
    caplog.set_level(logging.ERROR, "catalog.watch")
    following.registry.send_snapshot(5, [following.project_entry("a", "one")])
    async with following.catalog() as catalog:
        await catalog.reach(5)
        following.keys.refusal = REFUSALS[0]
        following.registry.script.put_nowait(Unavailable("restarts", reason="RESTARTS"))

        await _until(lambda: bool(caplog.records))
        assert _names(catalog) == {"one"}, "a change of keys may be under way"
        await _until(lambda: _reason(catalog) == "CATALOG_REFUSED")
        await _until(lambda: len(caplog.records) >= 2)
        told = [record.created for record in caplog.records]
        gaps = [later - earlier for earlier, later in itertools.pairwise(told)]
        assert min(gaps) > 0.4, "again and again, but not for every attempt"
        assert "TURNOUT_SERVICE_KEY" in caplog.text

        following.keys.refusal = None
        following.registry.send_resumed()
        await _until(lambda: _reason(catalog) == "")


async def test_an_outage_is_borne_however_long_it_takes(following: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "REFUSED_GRACE_SECONDS", 0.0)
    following.registry.send_snapshot(5, [following.project_entry("a", "one")])
    async with following.catalog() as catalog:
        await catalog.reach(5)
        following.registry.script.put_nowait(Unavailable("down", reason="DOWN"))
        await _until(lambda: len(following.registry.requests) == 2)
        assert _names(catalog) == {"one"}
