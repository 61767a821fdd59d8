"""Bodies that a server compressed although nobody asked for it."""

from __future__ import annotations

import zlib
from typing import Final

_PIECE_BYTES: Final = 64 * 1024
"""At most, of what is unpacked at once: a small body may hold a thousand times its size."""
_FOREIGN: Final = frozenset(("br", "compress", "x-compress", "zstd"))


class Inflater:
    """Unpacks one body piece by piece.

    :param is_gzip: or else "deflate"
    """

    def __init__(self, *, is_gzip: bool) -> None:
        self._is_gzip = is_gzip
        self._packed = b""
        self._unpacker: zlib._Decompress | None = None
        self._holds_more = False
        """Whether what was taken in last has not come out whole."""

    def feed(self, data: bytes) -> None:
        """More of the packed body, once `next` gives nothing."""
        self._packed = data

    def next(self) -> bytes:
        """The next piece; empty if there is none yet.

        :raises ValueError: if it is not what it is said to be
        """
        piece = b""
        while not piece and (self._packed or self._holds_more):
            unpacker = self._unpacker
            if unpacker is not None and unpacker.eof:
                # Behind the end there may be another member of gzip's, or what only fills up.
                self._packed = self._packed.lstrip(b"\0") if self._is_gzip else b""
                if not self._packed:
                    break
                unpacker = None
            if unpacker is None:
                unpacker = self._unpacker = self._begun()
            try:
                piece = unpacker.decompress(self._packed, _PIECE_BYTES)
            except zlib.error as error:
                raise ValueError("not packed as its head says") from error
            self._holds_more = len(piece) == _PIECE_BYTES and not unpacker.eof
            self._packed = unpacker.unused_data if unpacker.eof and self._is_gzip else unpacker.unconsumed_tail
        return piece

    def end(self) -> None:
        """Nothing more comes.

        :raises ValueError: if something is missing
        """
        if self._unpacker is not None and not self._unpacker.eof:
            raise ValueError("cut off")

    def _begun(self) -> zlib._Decompress:
        if self._is_gzip:
            # RFC 1952, section 2.2: there may be several, one behind the other.
            return zlib.decompressobj(zlib.MAX_WBITS | 16)
        # RFC 9110, section 8.4.1.2, says zlib's format; servers that leave its head out are as common.
        is_wrapped = self._packed[0] & 0x0F == zlib.DEFLATED
        return zlib.decompressobj(zlib.MAX_WBITS if is_wrapped else -zlib.MAX_WBITS)


def inflater_for(coding: str) -> Inflater | None:
    """What unpacks a body with this Content-Encoding; None if it is not packed.

    :raises ValueError: if nothing here does
    """
    name = coding.strip().lower()
    if name in _FOREIGN or "," in name:
        raise ValueError("an encoding that was not asked for")
    if name in ("gzip", "x-gzip"):
        return Inflater(is_gzip=True)
    return Inflater(is_gzip=False) if name == "deflate" else None
