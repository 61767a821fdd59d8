"""The head of a request."""

from __future__ import annotations

from multidict import CIMultiDictProxy

from kit.values import value


@value
class Message:
    """What a request says before its body."""

    method: str
    target: str
    """As it was written."""
    headers: CIMultiDictProxy[str]
    """Case-insensitive."""
    is_new: bool
    """Whether the caller speaks HTTP/1.1, or says that it speaks something newer."""
    closes: bool
    """Whether its answer is the last of its connection."""
