"""Everything the gateway needs from outside, but for the executor, which it calls by the generated stub."""

from __future__ import annotations

from typing import Protocol

from catalog.view import View


class Views(Protocol):
    """The catalog."""

    def usable_view(self) -> View:
        """The newest view.

        :raises Unavailable: if there is none, or none new enough
        """
        ...
