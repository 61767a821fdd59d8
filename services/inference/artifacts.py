"""Artifacts in a folder that all inference processes share, each under the digest of its manifest.

`<root>/<first two digits>/<digest>/` holds the manifest and its files, never changed once it is there. What is on its
way in lies in `<root>/incoming/<unique>/` and is renamed when it is whole, so nobody ever sees half of it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from kit import ids
from kit.errors import AppError, CannotStart, Exhausted, Invalid, Unavailable
from recommenders.artifact import MANIFEST, Manifest, check_artifact, open_artifact
from recommenders.npy import digest_file
from recommenders.scoring import Recommender

log = logging.getLogger(__name__)

LEFT_OVER_SECONDS: Final = 3600.0
"""What is on its way in and has not been written to for so long was left by a process that died."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_RESERVE_BYTES: Final = 64 << 20
"""What an upload leaves free for others on the same disk."""

P = ParamSpec("P")
T = TypeVar("T")


class FolderArtifacts:
    """The Artifacts port on a folder.

    :param root: must exist: a folder made in place of a missing volume would be gone with the container
    :param threads: what files are written and checked by
    :raises CannotStart: if the folder cannot be used
    """

    def __init__(self, root: Path, threads: ThreadPoolExecutor) -> None:
        self._root = root
        self._threads = threads
        self._incoming = root / "incoming"
        # What was read from end to end once needs that no more in this process.
        self._checked: set[str] = set()
        self._discards: set[asyncio.Task[None]] = set()
        try:
            self._incoming.mkdir(mode=0o700, exist_ok=True)
            probe = self._incoming / ids.new_uid("inc")
            probe.mkdir(mode=0o700)
            probe.rmdir()
        except OSError as error:
            raise CannotStart(
                f"TURNOUT_INFERENCE_ARTIFACTS_DIR: {root} cannot be used ({error.strerror}): name a writable folder "
                "that every inference process sees and that outlives them"
            ) from error

    async def receive(self, manifest: Manifest, text: bytes) -> FolderIncoming:
        """As the port says."""
        folder = self._incoming / ids.new_uid("inc")
        incoming = FolderIncoming(self, folder, manifest)
        try:
            await incoming.run(self._begin, folder, manifest, text)
        except BaseException:
            incoming.discard()
            raise
        return incoming

    def open(self, digest: str) -> Recommender:
        """As the port says."""
        folder = self.folder_of(digest)
        try:
            if not folder.is_dir() or folder.is_symlink():
                raise Unavailable(
                    "the artifact is not in TURNOUT_INFERENCE_ARTIFACTS_DIR: do all inference processes share that "
                    "folder? Uploading it again brings it back",
                    reason="ARTIFACT_MISSING",
                )
            recommender = open_artifact(folder)
            if recommender.manifest.digest != digest:
                raise Invalid(
                    f"{MANIFEST}: is not the one that the artifact is named by",
                    reason="ARTIFACT_MANIFEST_MALFORMED",
                    file=MANIFEST,
                )
            if digest not in self._checked:
                # These very bytes were checked to the last number when they came in: only a disk may have changed them
                # since. And hashing leaves the interpreter to the calls.
                _check_digests(folder, recommender.manifest)
            recommender.warm()
        except OSError as error:
            raise _storage_error(error) from error
        self._checked.add(digest)
        return recommender

    def folder_of(self, digest: str) -> Path:
        """Where an artifact lies.

        :raises Invalid: `ARTIFACT_DIGEST` if it is none that could name one
        """
        if not _DIGEST.fullmatch(digest):
            raise Invalid("the digest of the artifact is not one", reason="ARTIFACT_DIGEST", file=MANIFEST)
        return self._root / digest[:2] / digest

    def remove_left_overs(self) -> None:
        """Delete what dead processes were taking in. Blocks."""
        cutoff = time.time() - LEFT_OVER_SECONDS
        for folder in self._incoming.iterdir():
            try:
                newest = max(path.stat(follow_symlinks=False).st_mtime for path in (folder, *folder.iterdir()))
            except OSError:
                continue
            if newest < cutoff:
                shutil.rmtree(folder, ignore_errors=True)
                log.info("an upload that a dead process left is removed", extra={"folder": folder.name})

    def discard(self, incoming: FolderIncoming) -> None:
        """Delete what is not kept, once nobody writes to it."""
        task = asyncio.create_task(incoming.remove())
        self._discards.add(task)
        task.add_done_callback(self._discards.discard)

    async def close(self) -> None:
        """Wait until everything discarded is deleted."""
        await asyncio.gather(*self._discards)

    async def in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What blocks on files, elsewhere."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))

    def _begin(self, folder: Path, manifest: Manifest, text: bytes) -> None:
        usage = os.statvfs(self._incoming)
        if usage.f_bavail * usage.f_frsize < manifest.size_bytes + _RESERVE_BYTES:
            raise _full()
        folder.mkdir(mode=0o700)
        _append(folder / MANIFEST, text, is_new=True)

    def keep(self, folder: Path, manifest: Manifest) -> None:
        """Check what has come and rename it to its place. Blocks."""
        check_artifact(folder)
        for file in (MANIFEST, *(each.name for each in manifest.files)):
            _sync(folder / file)
        _sync(folder)
        place = self.folder_of(manifest.digest)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        _sync(self._root)
        if not _rename(folder, place) and not self._is_sound(place):
            # Damaged since it was kept. Processes that have it mapped keep what they have.
            log.warning("a damaged artifact is replaced", extra={"digest": manifest.digest})
            damaged = place.rename(self._incoming / ids.new_uid("inc"))
            _rename(folder, place)
            shutil.rmtree(damaged, ignore_errors=True)
        _sync(place.parent)

    def _is_sound(self, place: Path) -> bool:
        try:
            check_artifact(place)
        except Invalid:
            return False
        return True


class FolderIncoming:
    """The Incoming port on a folder."""

    def __init__(self, artifacts: FolderArtifacts, folder: Path, manifest: Manifest) -> None:
        self._artifacts = artifacts
        self._folder = folder
        self._manifest = manifest
        self._begun: set[str] = set()
        self._work: asyncio.Future[Any] | None = None  # of whatever ran last

    async def write(self, file: str, data: bytes) -> None:
        """As the port says."""
        is_new = file not in self._begun
        self._begun.add(file)
        await self.run(_append, self._folder / file, data, is_new=is_new)

    async def keep(self) -> None:
        """As the port says."""
        for file in self._manifest.files:
            if file.name not in self._begun:
                # Nothing of an empty file is ever sent.
                await self.write(file.name, b"")
        await self.run(self._artifacts.keep, self._folder, self._manifest)

    def discard(self) -> None:
        """As the port says."""
        self._artifacts.discard(self)

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """In a thread, failures translated. A caller that leaves does not stop the thread; `remove` waits for it."""
        running = asyncio.ensure_future(self._artifacts.in_thread(work, *args, **kwargs))
        self._work = running
        try:
            return await asyncio.shield(running)
        except OSError as error:
            raise _storage_error(error) from error

    async def remove(self) -> None:
        """Delete the folder, if it was not renamed."""
        if self._work is not None:
            await asyncio.wait({self._work})
            if not self._work.cancelled():
                # Looked at, or asyncio complains that nobody has.
                self._work.exception()
        await self._artifacts.in_thread(shutil.rmtree, self._folder, ignore_errors=True)


def _check_digests(folder: Path, manifest: Manifest) -> None:
    for file in manifest.files:
        if digest_file(folder, file.name) != file.digest:
            raise Invalid(
                f"{file.name}: does not have the digest that the manifest gives",
                reason="ARTIFACT_FILE_CORRUPTED",
                file=file.name,
            )


def _append(path: Path, data: bytes, *, is_new: bool) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags | (os.O_CREAT | os.O_EXCL if is_new else 0), 0o600)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
    finally:
        os.close(descriptor)


def _rename(folder: Path, place: Path) -> bool:
    """Whether it could be; False if the place is taken."""
    try:
        folder.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _full() -> Exhausted:
    return Exhausted(
        "the folder of the artifacts is full; make room in TURNOUT_INFERENCE_ARTIFACTS_DIR and upload again",
        reason="ARTIFACT_STORAGE_FULL",
    )


def _storage_error(error: OSError) -> AppError:
    if error.errno in _FULL:
        return _full()
    log.warning("the folder of the artifacts fails", extra={"error": error.strerror})
    return Unavailable(
        f"the folder of the artifacts fails ({error.strerror}); mend TURNOUT_INFERENCE_ARTIFACTS_DIR and try again",
        reason="ARTIFACT_STORAGE_FAILED",
    )
