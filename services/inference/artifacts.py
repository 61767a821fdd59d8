"""Artifacts in a folder that all inference processes share, each under the digest of its manifest.

`<root>/<first two digits>/<digest>/` holds the manifest and its files, never changed once it is there. What is on its
way in lies in `<root>/incoming/<unique>/artifact/` and is renamed when it is whole, so nobody ever sees half of it.

Who takes it in holds the lock of `incoming/<unique>/`. The kernel lets go of it when a process dies, however it does:
a folder there whose lock can be taken belongs to nobody, and whoever takes it removes it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from kit import ids
from kit.errors import AppError, CannotStart, Exhausted, Invalid, Unavailable
from kit.spool import lock
from recommenders.artifact import MANIFEST, Manifest, check_artifact, open_artifact
from recommenders.npy import digest_file
from recommenders.scoring import Recommender
from services.inference.ports import Clock

log = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 180.0
"""How often what dead processes left is looked for, beside at the start."""
_ARTIFACT: Final = "artifact"
_DAMAGED: Final = "damaged"
_CLAIMS: Final = 20
"""How often a new folder may be lost to sweeps before something else must be wrong."""
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
            remove(self._claim())
        except OSError as error:
            raise CannotStart(
                f"TURNOUT_INFERENCE_ARTIFACTS_DIR: {root} cannot be used ({error.strerror}): name a writable folder "
                "that every inference process sees and that outlives them"
            ) from error

    async def receive(self, manifest: Manifest, text: bytes) -> FolderIncoming:
        """As the port says."""
        incoming = FolderIncoming(self, manifest)
        try:
            await incoming.run(incoming.begin, text)
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
        """Delete what dead processes were taking in, and nothing that a living one is. Blocks."""
        try:
            with os.scandir(self._incoming) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except OSError as error:
            log.warning("the folder of what comes in cannot be read", extra={"error": error.strerror})
            return
        for name in names:
            folder = self._incoming / name
            try:
                held = lock.take(folder)
            except OSError:
                continue
            if held is not None:
                remove(Claim(folder, held))
                log.info("an upload that a dead process left is removed", extra={"folder": name})

    async def sweep(self, clock: Clock) -> None:
        """The same again and again, for ever: other processes may die while this one lives."""
        while True:
            await clock.sleep(SWEEP_SECONDS)
            await self.in_thread(self.remove_left_overs)

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

    def begin(self, manifest: Manifest, text: bytes) -> Claim:
        """A folder for one on its way in, with its manifest. Blocks."""
        usage = os.statvfs(self._incoming)
        if usage.f_bavail * usage.f_frsize < manifest.size_bytes + _RESERVE_BYTES:
            raise _full()
        claim = self._claim()
        try:
            claim.artifact.mkdir(mode=0o700)
            _append(claim.artifact / MANIFEST, text, is_new=True)
        except BaseException:
            remove(claim)
            raise
        return claim

    def _claim(self) -> Claim:
        """A new folder that is ours."""
        for _ in range(_CLAIMS):
            folder = self._incoming / ids.new_uid("inc")
            folder.mkdir(mode=0o700)
            try:
                held = lock.take(folder)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            if held is not None:
                return Claim(folder, held)
            # A sweep came between the two steps and took it for a left-over; it removes it.
        raise OSError(errno.EAGAIN, "its locks are taken by somebody else")

    def keep(self, claim: Claim, manifest: Manifest) -> None:
        """Check what has come and rename it to its place. Blocks."""
        folder = claim.artifact
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
            place.rename(claim.folder / _DAMAGED)
            _rename(folder, place)
        _sync(place.parent)

    def _is_sound(self, place: Path) -> bool:
        try:
            check_artifact(place)
        except Invalid:
            return False
        return True


@dataclass(frozen=True, slots=True)
class Claim:
    """A folder below `incoming` that is ours while the descriptor is open."""

    folder: Path
    descriptor: int

    @property
    def artifact(self) -> Path:
        """Where the files come to lie. The lock is beside them, so that it stays when they are renamed to their
        place."""
        return self.folder / _ARTIFACT


def remove(claim: Claim) -> None:
    """Delete a folder and let go of it: in this order, or somebody could find it ours no more and not yet gone."""
    shutil.rmtree(claim.folder, ignore_errors=True)
    os.close(claim.descriptor)


class FolderIncoming:
    """The Incoming port on a folder."""

    def __init__(self, artifacts: FolderArtifacts, manifest: Manifest) -> None:
        self._artifacts = artifacts
        self._manifest = manifest
        self._claim: Claim | None = None
        self._begun_files: set[str] = set()
        self._work: asyncio.Future[Any] | None = None  # of whatever ran last

    def begin(self, text: bytes) -> None:
        """Make the folder. Blocks."""
        self._claim = self._artifacts.begin(self._manifest, text)

    async def write(self, file: str, data: bytes) -> None:
        """As the port says."""
        is_new = file not in self._begun_files
        self._begun_files.add(file)
        await self.run(_append, self._begun_claim().artifact / file, data, is_new=is_new)

    async def keep(self) -> None:
        """As the port says."""
        for file in self._manifest.files:
            if file.name not in self._begun_files:
                # Nothing of an empty file is ever sent.
                await self.write(file.name, b"")
        await self.run(self._keep)

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
        """Delete what was not renamed to its place, and let go of the folder."""
        if self._work is not None:
            await asyncio.wait({self._work})
            if not self._work.cancelled():
                # Looked at, or asyncio complains that nobody has.
                self._work.exception()
        claim, self._claim = self._claim, None
        if claim is not None:
            await self._artifacts.in_thread(remove, claim)

    def _keep(self) -> None:
        claim = self._begun_claim()
        self._artifacts.keep(claim, self._manifest)
        # Before the caller hears of it, so that an upload that ended well has left nothing.
        self._claim = None
        remove(claim)

    def _begun_claim(self) -> Claim:
        assert self._claim is not None  # noqa: S101  # `receive` hands nothing out that is not begun
        return self._claim


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
