"""That calls ran configurations. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from completions.version import Version as Content


@dataclass(frozen=True, slots=True)
class Sighting:
    """A call ran a configuration, as its service tells."""

    project: str
    """The project's uid."""
    version: str
    """The uid that the configuration is said to have."""
    content: Content
    """The configuration; its provider is a uid."""
    seen_at: datetime

    @property
    def key(self) -> tuple[str, str]:
        """Which version of which project."""
        return self.project, self.version
