"""Everything the router needs from outside."""

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


class Ids(Protocol):
    """Makes ids."""

    def __call__(self, kind: str, /) -> str:
        """A new one, such as `req_…` for the kind `req`."""
        ...
