"""What a recommendation and an upload are, and their rules. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from catalog import view
from catalog.plan import Decision, Refusal
from catalog.targets import Target
from recommenders.artifact import Manifest
from recommenders.scoring import Answer

DEFAULT_LIMIT: Final = 10
"""How many items are answered to a call that does not say."""
DEADLINE_TOLERANCE_SECONDS: Final = 0.005
"""Timers fire early by up to the clock's resolution: closer to the deadline than this counts as past it."""
DEADLINE_LEAD_SECONDS: Final = 0.25
"""By how much a caller's clock may be ahead of ours: whoever leaves closer to the deadline has run out of time."""
RETRY_BASE_SECONDS: Final = 1.0
RETRY_CAP_SECONDS: Final = 60.0


class Source(StrEnum):
    """Where a call came from."""

    API = "api"
    SDK = "sdk"


class Status(StrEnum):
    """How a call ended."""

    OK = "ok"
    ERROR = "error"
    CANCELLED = "cancelled"
    LOST = "lost"
    """Not ended yet: what its record says if the process dies now."""


@dataclass(frozen=True, slots=True)
class RecommendCall:
    """What a caller asks, and who it is. Texts are as sent."""

    deployment: str
    user_id: str
    limit: int
    include_seen: bool
    routing_key: str
    identity: str
    thread: str
    metadata_json: str
    caller_trace_id: str
    source: Source
    tenant: str
    """uid of the key's project; empty for platform keys."""
    key_id: str
    trace_id: str
    """W3C, 32 hexadecimal digits."""
    deadline: float
    """On the clock of `ports.Clock.now`."""
    context_json: str = ""
    """What rules ask about."""


@dataclass(slots=True)
class Recommendation:
    """One call while it is served, and afterwards what is recorded of it. Filled in as it goes, so not frozen."""

    request_id: str
    call: RecommendCall
    target: Target
    start_unix_ns: int
    started: float
    """On the clock of `ports.Clock.now`."""
    decision: Decision | None = None
    refusal: Refusal | None = None
    """What was decided instead, if nothing that could serve was active."""
    model: view.Model | None = None
    """The one that answered: the variant's own, or the one before it while that is not loaded yet."""
    answer: Answer | None = None
    status: Status = Status.LOST
    reason: str = ""
    latency_us: int = 0

    @property
    def project(self) -> view.Project:
        """The tenant."""
        return self.target.project


class LoadState(StrEnum):
    """How far a model is."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"
    """It is tried again."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """One model in this process."""

    model: view.Model
    state: LoadState
    reason: str = ""
    """UPPER_SNAKE; empty unless failed."""
    message: str = ""
    size_bytes: int = 0
    load_unix_ns: int = 0
    """0 before it was ready."""


@dataclass(frozen=True, slots=True)
class UploadHeader:
    """What an upload announces."""

    project: str
    """The last segment of its name: slug or uid."""
    display_name: str
    description: str
    manifest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class UploadChunk:
    """A part of a file."""

    file: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class NewModel:
    """A model whose artifact is checked and kept, for the registry."""

    project: view.Project
    display_name: str
    description: str
    digest: str
    algorithm: str
    parameters_json: str
    metrics_json: str
    user_count: int
    item_count: int
    interaction_count: int
    size_bytes: int
    on_behalf_of: str
    """The id of the key whose upload it is."""


def retry_seconds(failures: int, uniform: float) -> float:
    """How long to wait before a model that could not be loaded is tried again: between half and all of a doubling time,
    so that the processes of an installation do not come back to the storage together.

    :param failures: how often it has failed in a row, from 1
    :param uniform: a random number in [0, 1)
    """
    return min(RETRY_CAP_SECONDS, RETRY_BASE_SECONDS * 2.0 ** min(failures - 1, 16)) * (0.5 + uniform / 2)


def multiplications_of(manifest: Manifest) -> int:
    """About how many numbers a model multiplies to answer one user who is like the others.

    A measure of work that the manifest alone tells: all factors of all items; or the similarities of the items that a
    user has; or nothing, for what is only looked up.
    """
    numbers = {file.name: file.size_bytes // 4 for file in manifest.files}
    if "item_factors.npy" in numbers:
        return numbers["item_factors.npy"]
    similarities = numbers.get("similarity_data.npy", 0) / max(1, manifest.item_count)
    return int(similarities * manifest.interaction_count / max(1, manifest.user_count))


def microseconds(seconds: float) -> int:
    """Rounded down; never negative."""
    return max(0, math.floor(seconds * 1e6))
