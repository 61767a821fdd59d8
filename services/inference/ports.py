"""Everything inference needs from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

from catalog import view
from recommenders.artifact import Manifest
from recommenders.scoring import Answer, Query
from services.inference.domain import NewModel, Recommendation

ModelT_co = TypeVar("ModelT_co", covariant=True)


class Views(Protocol):
    """The catalog."""

    def usable_view(self) -> view.View:
        """The newest view.

        :raises Unavailable: if there is none, or none new enough
        """
        ...

    async def reach(self, sequence: int) -> None:
        """Wait until the view is as new as `sequence`.

        :raises Unavailable: if it takes longer than a moment
        """
        ...


class Recorder(Protocol):
    """Keeps what happened, durably, before it returns. Never waits, so it works while a call is being cancelled."""

    def open(self, recommendation: Recommendation) -> object:
        """The start of a call: if the process dies before the end, it is recorded as lost. The result is for `close`.

        :raises Unavailable: if nothing can be recorded now; the call must then not be served
        """
        ...

    def close(self, opened: object, recommendation: Recommendation) -> None:
        """The end of a call.

        :raises Unavailable: if it cannot be recorded; it will be recorded as lost
        """
        ...


class Recommender(Protocol):
    """A model in memory. Blocks; may be used by several threads at once."""

    @property
    def manifest(self) -> Manifest:
        """What it is."""
        ...

    def recommend(self, queries: Sequence[Query]) -> list[Answer]:
        """An answer for each query, in their order."""
        ...

    def warm(self) -> None:
        """Touch what the first call would otherwise wait for."""
        ...

    def close(self) -> None:
        """Let go of its files. Nobody may be using it."""
        ...


class Incoming(Protocol):
    """An artifact on its way in."""

    async def write(self, file: str, data: bytes) -> None:
        """Append to one of the manifest's files.

        :raises Exhausted: `ARTIFACT_STORAGE_FULL`
        :raises Unavailable: `ARTIFACT_STORAGE_FAILED`
        """
        ...

    async def keep(self) -> None:
        """Check all of it and put it where models are opened. Equal artifacts are kept once.

        :raises Invalid: `ARTIFACT_…` if it is damaged, with the file
        :raises Exhausted: `ARTIFACT_STORAGE_FULL`
        :raises Unavailable: `ARTIFACT_STORAGE_FAILED`
        """
        ...

    def discard(self) -> None:
        """Leave nothing of what was not kept; done soon. Never waits, so it works while a call is being cancelled."""
        ...


class Artifacts(Protocol):
    """Where artifacts are kept, named by their content."""

    async def receive(self, manifest: Manifest, text: bytes) -> Incoming:
        """Begin to take one in.

        :param text: the manifest, byte for byte
        :raises Exhausted: `ARTIFACT_STORAGE_FULL`
        :raises Unavailable: `ARTIFACT_STORAGE_FAILED`
        """
        ...

    def open(self, digest: str) -> Recommender:
        """Map an artifact into memory, compare it with its digests and warm it. Blocks as long as reading it takes.

        :raises Invalid: `ARTIFACT_…` if it is damaged, with the file
        :raises Unavailable: `ARTIFACT_MISSING`, `ARTIFACT_STORAGE_FAILED`
        """
        ...


class Registry(Protocol[ModelT_co]):
    """Keeps what is known of models."""

    async def register_model(self, model: NewModel, timeout_seconds: float) -> ModelT_co:
        """The model, new or the one that is there; in the registry's own words, which only the caller reads.

        :raises AppError: what the registry refuses
        :raises Unavailable: if it cannot be reached in time
        """
        ...


class Clock(Protocol):
    """Time and chance."""

    def now(self) -> float:
        """Seconds on the clock of deadlines."""
        ...

    def unix_ns(self) -> int:
        """Nanoseconds since 1970."""
        ...

    def uniform(self) -> float:
        """A random number in [0, 1)."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
