"""Fakes of the room's ports."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from catalog.plan import KeyKind, decide
from catalog.targets import Target
from catalog.view import (
    Deployment,
    DeploymentKind,
    Model,
    Project,
    Recommendation,
    Revision,
    UnknownUsers,
    Variant,
    View,
)
from kit.errors import AppError, Unavailable
from recommenders.artifact import ArtifactFile, Manifest
from recommenders.scoring import Answer, Item, Query

SHOP = Project("prj_shop", 1, "shop")
STRANGER = "stranger"


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def manifest(digest: str = "d" * 64, factors_bytes: int = 400) -> Manifest:
    files = (ArtifactFile("item_factors.npy", factors_bytes, "0" * 64),)
    return Manifest(digest, "als", {}, {}, 10, 10, 10, files, 1000 + factors_bytes)


class FakeRecommender:
    """Answers its own digest as the only item; `open_gate` lets it answer at all."""

    def __init__(self, digest: str = "d" * 64, *, multiplications: int = 0) -> None:
        self.manifest = manifest(digest, multiplications * 4)
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[list[str]] = []
        self.threads: list[int] = []
        self.fails: BaseException | None = None
        self.closed = 0

    def recommend(self, queries: Sequence[Query]) -> list[Answer]:
        assert not self.closed
        self.batches.append([query.user_id for query in queries])
        self.threads.append(threading.get_ident())
        assert self.gate.wait(10)
        if self.fails is not None:
            raise self.fails
        return [
            Answer((Item(f"{query.user_id} of {self.manifest.digest[:4]}", 1.0, ""),), query.user_id == STRANGER)
            for query in queries
        ]

    def warm(self) -> None: ...

    def close(self) -> None:
        self.closed += 1


class FakeArtifacts:
    """Opens what a test puts in; an error in its place is raised. A closed gate holds a load up."""

    def __init__(self) -> None:
        self.there: dict[str, FakeRecommender | Exception] = {}
        self.gates: dict[str, threading.Event] = {}
        self.opened: list[str] = []

    def put(self, digest: str, *, multiplications: int = 0) -> FakeRecommender:
        made = FakeRecommender(digest, multiplications=multiplications)
        self.there[digest] = made
        return made

    def hold(self, digest: str) -> threading.Event:
        return self.gates.setdefault(digest, threading.Event())

    def open(self, digest: str) -> FakeRecommender:
        self.opened.append(digest)
        if digest in self.gates:
            assert self.gates[digest].wait(10)
        found = self.there.get(digest, Unavailable("gone", reason="ARTIFACT_MISSING"))
        if isinstance(found, Exception):
            raise found
        return found

    async def receive(self, manifest: Manifest, text: bytes) -> Any:
        raise NotImplementedError


@dataclass
class FakeViews:
    """A catalog that a test changes by hand."""

    view: View = field(default_factory=View)
    failure: AppError | None = None

    def __post_init__(self) -> None:
        self._advanced = asyncio.Event()

    def usable_view(self) -> View:
        if self.failure is not None:
            raise self.failure
        return self.view

    async def reach(self, sequence: int) -> None:
        while self.view.sequence < sequence:
            await self._advanced.wait()

    def show(self, *things: Any) -> View:
        """The next view: these and nothing else."""
        changes = [(f"{'model' if isinstance(each, Model) else 'deployment'}/{each.uid}", each) for each in things]
        changes.append(("project/prj_shop", SHOP))
        self.view = View().with_changes(self.view.sequence + 1, changes)
        self._advanced.set()
        self._advanced = asyncio.Event()
        return self.view


@dataclass
class FakeClock:
    """Time stands still; a sleep ends when a test says so."""

    time: float = 100.0
    slept: list[float] = field(default_factory=list)
    sleepers: list[asyncio.Future[None]] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def unix_ns(self) -> int:
        return 1_700_000_000_000_000_000

    def uniform(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.sleepers.append(asyncio.get_running_loop().create_future())
        await self.sleepers[-1]

    def wake(self) -> None:
        for sleeper in self.sleepers:
            if not sleeper.done():
                sleeper.set_result(None)


def model(number: int, digest: str | None = None) -> Model:
    return Model(f"mod_{number}", SHOP.uid, number, digest or f"{number:064x}")


def variant(
    slug: str, model: str, *, weight: float = 100, active: bool = True, unknown: UnknownUsers = UnknownUsers.POPULAR
) -> Variant:
    return Variant(f"var_{slug}", 1, slug, slug, active, weight, Recommendation(model, unknown))


def deployment(*variants: Variant, **aliases: Revision) -> Deployment:
    """With one revision behind `live`, and others behind other aliases."""
    revision = Revision("rev_1", "1.0", "dep_films", variants)
    return Deployment("dep_films", SHOP.uid, "films", DeploymentKind.RECOMMENDATION, {"live": revision, **aliases})


def decision(made: Deployment, alias: str = "live", key: str = "ada") -> Any:
    return decide(Target(SHOP, made, alias, made.aliases[alias]), KeyKind.USER, key)
