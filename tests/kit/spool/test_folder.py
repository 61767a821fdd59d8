"""A folder by itself: what must be on the disk before something else goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kit.spool import Call, Event, SpoolOptions
from kit.spool.folder import Folder
from kit.spool.ledger import Ledger
from kit.spool.record import encode_events, encode_start, new_id


async def test_a_start_that_moves_is_on_the_disk_before_its_segment_goes_with_fsync_batch(
    tmp_path: Path, options: Callable[..., SpoolOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.create(options(tmp_path, fsync="batch"), Ledger(), lambda: 0.0)
    call = Call(new_id())
    folder.open_calls[call] = folder.append(encode_start(call, b"start", 1000), 0, 0)
    folder.append(encode_events(None, [(new_id(), Event("subject", b"1"))], 1000), 1, 0)
    folder.seal()
    await folder.sync()
    while (batch := await folder.next_batch()) is not None:
        folder.acknowledge(batch)
    steps: list[tuple[str, str]] = []
    fsync, unlink = os.fsync, Path.unlink

    def note_fsync(fd: int) -> None:
        steps.append(("sync", Path(os.readlink(f"/proc/self/fd/{fd}")).name))
        fsync(fd)

    def note_unlink(path: Path, **how: Any) -> None:
        steps.append(("unlink", path.name))
        unlink(path, **how)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "unlink", note_unlink)
    segment = folder.oldest_acknowledged()
    assert segment is not None
    assert await folder.drop(segment)

    assert steps.index(("sync", "00000001.seg")) < steps.index(("unlink", "00000000.seg"))
    assert folder.start_payload(folder.open_calls[call]) == b"start"
    folder.close()
