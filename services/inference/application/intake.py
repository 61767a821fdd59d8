"""What an upload may send next: the files of its manifest, in its order, each to its last byte and not one more."""

from __future__ import annotations

import re
from typing import Final

from kit.errors import Invalid
from recommenders.artifact import MANIFEST, Manifest

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class Intake:
    """Follows one upload; says no before a byte that does not belong is written anywhere.

    :raises Invalid: `ARTIFACT_FILE_NAME` if the manifest names a file that could lie anywhere but in the artifact's own
        folder, or beside another of the same name
    """

    def __init__(self, manifest: Manifest) -> None:
        names = [file.name for file in manifest.files]
        for name in names:
            # The manifest was parsed, and may only name known files; here it is what paths are made of.
            if not _NAME.fullmatch(name) or name == MANIFEST or names.count(name) > 1:
                raise _refused("FILE_NAME", name, "is no name for a file of an artifact")
        self._files = manifest.files
        self._names = names
        self._current = 0
        self._received = 0

    def take(self, name: str, size: int) -> None:
        """The next piece is of this file and this long, in bytes.

        :raises Invalid: `ARTIFACT_FILE_UNKNOWN`, `ARTIFACT_FILE_DUPLICATE`, `ARTIFACT_FILE_ORDER`,
            `ARTIFACT_FILE_TRUNCATED`, `ARTIFACT_FILE_TOO_LARGE` or `ARTIFACT_CHUNK_EMPTY`, with the file
        """
        if name not in self._names:
            raise _refused("FILE_UNKNOWN", name, "is not in the manifest")
        self._pass_complete(name)
        if self._current == len(self._files) or self._names.index(name) < self._current:
            raise _refused("FILE_DUPLICATE", name, "is complete already: each file is sent once")
        file = self._files[self._current]
        if name != file.name:
            if self._received:
                raise _truncated(file.name, self._received, file.size_bytes)
            raise _refused(
                "FILE_ORDER", name, f"comes too early: files are sent as the manifest has them, {file.name} next"
            )
        if size == 0 and file.size_bytes:
            raise _refused("CHUNK_EMPTY", name, "has a piece without bytes")
        if self._received + size > file.size_bytes:
            raise _refused("FILE_TOO_LARGE", name, f"is longer than the {file.size_bytes} bytes of the manifest")
        self._received += size

    def end(self) -> None:
        """Nothing more comes.

        :raises Invalid: `ARTIFACT_FILE_TRUNCATED` or `ARTIFACT_FILE_MISSING`, with the file
        """
        self._pass_complete("")
        if self._current == len(self._files):
            return
        file = self._files[self._current]
        if self._received:
            raise _truncated(file.name, self._received, file.size_bytes)
        raise _refused("FILE_MISSING", file.name, "was not sent")

    def _pass_complete(self, name: str) -> None:
        """Go on behind files that are complete; an empty one is, once another follows it."""
        while self._current < len(self._files):
            file = self._files[self._current]
            if self._received < file.size_bytes or file.name == name:
                return
            self._current, self._received = self._current + 1, 0


def _truncated(name: str, received: int, size: int) -> Invalid:
    return _refused("FILE_TRUNCATED", name, f"ends after {received} of the {size} bytes of the manifest")


def _refused(reason: str, file: str, message: str) -> Invalid:
    return Invalid(f"{file[:100]}: {message}", reason=f"ARTIFACT_{reason}", file=file[:100])
