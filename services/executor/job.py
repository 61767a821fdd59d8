"""A call that is ready to run: what is said, and where it may be said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from catalog.view import Completion
from completions.chat import Message
from completions.version import Version
from kit.values import Value
from services.executor.breaker import Target
from services.executor.domain import ProviderFailure, ProviderRequest
from services.executor.prepared import Prepared


class Place(Value):
    """Where a call may run."""

    index: int
    """0 is the version's own, n its n-th fallback."""
    request: ProviderRequest
    max_retries: int
    attempt_timeout_seconds: float | None
    answer_tokens: int
    """The most that the model may write here; 0 if it is not told."""
    problem: ProviderFailure | None = None
    """Why it is not worth asking, if that is known beforehand."""

    @property
    def target(self) -> Target:
        """What fails or works together."""
        return Target(self.request.provider.uid, self.request.model)


class Job(Value):
    """All that is known before a provider is asked."""

    hidden: ClassVar = frozenset(("prepared",))

    places: Sequence[Place]
    """At least one, in order."""
    prepared: Prepared
    """What runs."""
    completion: Completion
    """How hard to try."""

    @property
    def version(self) -> Version:
        """What runs, for people to read; its provider is a uid."""
        return self.prepared.version

    @property
    def messages(self) -> Sequence[Message]:
        """What is said, in order."""
        return self.places[0].request.messages
