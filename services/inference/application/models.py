"""The trained models of this process: loaded ahead of the calls, swapped whole, kept until their last call has ended.

Per process, not per call: what variants want is read off the newest view; a call finds what is there.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, TypeAlias

from catalog import view
from catalog.plan import Decision
from catalog.view import Deployment, DeploymentKind, Model, View
from kit.errors import AppError, Unavailable
from services.inference import domain
from services.inference.application.batches import Batches, Computing
from services.inference.domain import LoadedModel, LoadState
from services.inference.ports import Artifacts, Clock, Recommender, Views

log = logging.getLogger(__name__)

FIRST_LOAD_SECONDS: Final = 5.0
"""How long a call waits for a variant's first model."""
_UNUSABLE_SECONDS: Final = 0.1
"""How long to wait for a view when there is none, or only a stale one."""

Slot: TypeAlias = tuple[str, str, str]
"""Deployment, alias and variant, by uid and name: revisions share variants, so a variant alone is not enough."""


@dataclass(slots=True, eq=False)
class _Holding:
    """One artifact in this process, from the first wish for it to its closing."""

    digest: str
    state: LoadState = LoadState.LOADING
    reason: str = ""
    message: str = ""
    failures: int = 0
    retry_at: float = 0
    batches: Batches | None = None
    size_bytes: int = 0
    load_unix_ns: int = 0
    is_retired: bool = False
    task: asyncio.Task[None] | None = None


@dataclass(frozen=True, slots=True)
class ReadyModel:
    """A model as the catalog names it, and what answers for it. To be asked at once: it is closed when nobody waits for
    it and no slot holds it any more."""

    model: Model
    batches: Batches


class Models:
    """Keeps every model loaded that an aliased revision of a recommendation deployment uses, in all projects.

    A slot's new model serves once it is loaded, checked and warm; until then, or if it cannot be loaded, its old one
    does. What fails is tried again. An artifact is loaded once, however many slots, models and calls want it.

    :param loaders: threads that read and check artifacts; loading never takes a thread from calls
    """

    def __init__(
        self, views: Views, artifacts: Artifacts, clock: Clock, computing: Computing, loaders: ThreadPoolExecutor
    ) -> None:
        self._views = views
        self._artifacts = artifacts
        self._clock = clock
        self._computing = computing
        self._loaders = loaders
        self._seen: View | None = None
        self._wanted: Mapping[Slot, Model] = {}
        self._serving: dict[Slot, ReadyModel] = {}
        self._holdings: dict[str, _Holding] = {}
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, ready: asyncio.Event, ready_seconds: float) -> None:
        """Follow the catalog for ever.

        :param ready: set when the models of the first view are loaded or have failed, or `ready_seconds` after it came
        """
        async with asyncio.TaskGroup() as group:
            group.create_task(self._become_ready(ready, ready_seconds))
            while True:
                try:
                    self.follow(seen := self._views.usable_view())
                except Unavailable:
                    await self._clock.sleep(_UNUSABLE_SECONDS)
                    continue
                # Answers as soon as there is a newer view; complains after a moment without one, which is no failure.
                with suppress(Unavailable):
                    await self._views.reach(seen.sequence + 1)

    async def _become_ready(self, ready: asyncio.Event, seconds: float) -> None:
        while self._seen is None:
            await self._changed.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while any(holding.state is LoadState.LOADING for holding in self._holdings.values()):
                    await self._changed.wait()
        ready.set()

    async def find(self, seen: View, decision: Decision, *, limit_seconds: float) -> ReadyModel:
        """What serves a decision: the model of its variant, or the one before it while that is not loaded.

        :param limit_seconds: how long the call may still take
        :raises Unavailable: `MODEL_NOT_LOADED` if there is none, and none comes within `limit_seconds` and 5 s
        """
        return self._ready(seen, decision) or await self._first(seen, decision, limit_seconds)

    def follow(self, seen: View) -> None:
        """Want what this view's deployments want."""
        if seen is self._seen:
            return
        is_first, self._seen = self._seen is None, seen
        wanted = dict(_wanted_in(seen))
        if wanted == self._wanted and not is_first:
            return
        self._wanted = wanted
        for digest in {model.digest for model in wanted.values()} - self._holdings.keys():
            holding = self._holdings[digest] = _Holding(digest)
            # In a context of its own: a load belongs to no call, though one may be the first to ask for it.
            holding.task = asyncio.create_task(
                self._load(holding), name=f"inference: load {digest[:12]}", context=contextvars.Context()
            )
            self._tasks.add(holding.task)
            holding.task.add_done_callback(self._tasks.discard)
        self._settle()

    def loaded_models(self, project: str) -> list[LoadedModel]:
        """Those that a project's slots want, by number."""
        models = {model.uid: model for model in self._wanted.values() if model.project == project}
        found = []
        for model in sorted(models.values(), key=lambda each: each.number):
            holding = self._holdings[model.digest]
            found.append(
                LoadedModel(
                    model=model,
                    state=holding.state,
                    reason=holding.reason,
                    message=holding.message,
                    size_bytes=holding.size_bytes,
                    load_unix_ns=holding.load_unix_ns,
                )
            )
        return found

    async def close(self) -> None:
        """Let go of everything. No call may be running."""
        self._wanted = {}
        self._settle()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ready(self, seen: View, decision: Decision) -> ReadyModel | None:
        serving = decision.variant.serving
        assert isinstance(serving, view.Recommendation)  # noqa: S101  # the deployment's kind was checked
        model = seen.model(serving.model)
        if model is not None:
            holding = self._holdings.get(model.digest)
            if holding is not None and holding.batches is not None:
                return ReadyModel(model, holding.batches)
        return self._serving.get(_slot(decision))

    async def _first(self, seen: View, decision: Decision, limit_seconds: float) -> ReadyModel:
        """As `_ready`, when nothing is there yet."""
        # This call may have seen the change before the task that follows the catalog.
        with suppress(Unavailable):
            self.follow(self._views.usable_view())
        holding = self._holding_of(seen, decision)
        with suppress(TimeoutError):
            async with asyncio.timeout(min(limit_seconds, FIRST_LOAD_SECONDS)):
                while holding is not None and holding.state is LoadState.LOADING and not holding.is_retired:
                    await self._changed.wait()
        found = self._ready(seen, decision)
        if found is not None:
            return found
        pause = holding.retry_at - self._clock.now() if holding is not None else 0
        reason = f" ({holding.reason})" if holding is not None and holding.reason else ""
        raise Unavailable(
            f"the model of the variant {decision.variant.slug!r} is not loaded{reason}; try again, "
            "and see ListLoadedModels",
            reason="MODEL_NOT_LOADED",
            retry_after_seconds=max(1.0, pause),
            variant=decision.variant.uid,
        )

    def _holding_of(self, seen: View, decision: Decision) -> _Holding | None:
        serving = decision.variant.serving
        model = seen.model(serving.model) if isinstance(serving, view.Recommendation) else None
        return self._holdings.get(model.digest) if model is not None else None

    async def _load(self, holding: _Holding) -> None:
        """Until it is there, or not wanted any more."""
        while True:
            try:
                recommender = await self._open(holding.digest)
            except AppError as error:
                self._fail(holding, error.reason, error.message)
            except Exception:  # one bad artifact must not take the process down; the log has the rest
                log.exception("a model cannot be loaded because of a bug", extra={"digest": holding.digest})
                self._fail(holding, "INTERNAL", "internal error; the log of the process says more")
            else:
                self._take(holding, recommender)
                return
            await self._clock.sleep(holding.retry_at - self._clock.now())

    async def _open(self, digest: str) -> Recommender:
        opening = self._loaders.submit(self._artifacts.open, digest)
        try:
            return await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            # A thread cannot be stopped: what it opens is closed when it is done.
            opening.add_done_callback(_close_what_opened)
            raise

    def _take(self, holding: _Holding, recommender: Recommender) -> None:
        manifest = recommender.manifest
        holding.batches = Batches(recommender, self._computing, multiplications=domain.multiplications_of(manifest))
        holding.state, holding.reason, holding.message = LoadState.READY, "", ""
        holding.size_bytes, holding.load_unix_ns = manifest.size_bytes, self._clock.unix_ns()
        holding.failures, holding.task = 0, None
        log.info("a model is loaded", extra={"digest": holding.digest, "size_bytes": manifest.size_bytes})
        self._settle()

    def _fail(self, holding: _Holding, reason: str, message: str) -> None:
        holding.failures += 1
        pause = domain.retry_seconds(holding.failures, self._clock.uniform())
        holding.retry_at = self._clock.now() + pause
        if holding.reason != reason:
            log.warning("a model cannot be loaded; retrying", extra={"digest": holding.digest, "reason": reason})
        holding.state, holding.reason, holding.message = LoadState.FAILED, reason, message
        self._announce()

    def _settle(self) -> None:
        """Swap in what is ready and let go of what nobody wants: one step, between two calls."""
        for slot, model in self._wanted.items():
            holding = self._holdings[model.digest]
            if holding.batches is not None:
                self._serving[slot] = ReadyModel(model, holding.batches)
        for slot in self._serving.keys() - self._wanted.keys():
            del self._serving[slot]
        used = {model.digest for model in self._wanted.values()}
        used |= {ready.model.digest for ready in self._serving.values()}
        for digest in self._holdings.keys() - used:
            holding = self._holdings.pop(digest)
            holding.is_retired = True
            if holding.task is not None:
                holding.task.cancel()
            if holding.batches is not None:
                holding.batches.close()
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _wanted_in(seen: View) -> Iterator[tuple[Slot, Model]]:
    for thing in seen.things.values():
        if not isinstance(thing, Deployment) or thing.kind is not DeploymentKind.RECOMMENDATION:
            continue
        for alias, revision in thing.aliases.items():
            for variant in revision.variants:
                if isinstance(variant.serving, view.Recommendation):
                    model = seen.model(variant.serving.model)
                    if model is not None:
                        yield (thing.uid, alias, variant.uid), model


def _slot(decision: Decision) -> Slot:
    return decision.target.deployment.uid, decision.target.alias, decision.variant.uid


def _close_what_opened(opening: Future[Recommender]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
