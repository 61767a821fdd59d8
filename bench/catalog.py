"""The catalog at its size: `make bench WHAT=catalog`.

A registry process with 10,000 deployments of 5 variants, each with a version of its own: one is made through the
contract, the others after its example by the registry's own store, which is faster. Then, with Postgres, the registry
and the followers in processes of their own:

- a fresh follower takes its snapshot: how long until its view is whole, and what its process has grown by for each
  variant;
- 50 followers in `--processes` processes, each with a stream and a whole view of its own, are connected, and a weight
  is changed again and again: how long from the answer of the write until the last of the 50 views shows it.

A follower that misses a change, or whose view ends up different, fails the run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import grpc
import uvloop

from bench.catalog_followers import Followers
from bench.figures import interpreter, percentile
from bench.surroundings import Grouped, surroundings
from completions.version import version_id
from kit import database, ids, values
from kit.changelog import ChangeLog
from services.registry import tables
from services.registry.domain import Completion, Thing, Version
from services.registry.store import PostgresStore
from stack.services import Installation
from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import (
    deployment_pb2,
    deployment_service_pb2,
    project_service_pb2,
    provider_pb2,
    provider_service_pb2,
)
from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceStub
from turnout.registry.v1.project_service_pb2_grpc import ProjectServiceStub
from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceStub

if TYPE_CHECKING:
    # These exist for type checkers only.
    from turnout.registry.v1.deployment_service_pb2_grpc import DeploymentServiceAsyncStub
    from turnout.registry.v1.project_service_pb2_grpc import ProjectServiceAsyncStub
    from turnout.registry.v1.provider_service_pb2_grpc import ProviderServiceAsyncStub

VARIANTS: Final = 5
FOLLOWERS: Final = 50
SNAPSHOT_GOAL_SECONDS: Final = 5.0
CHANGE_GOAL_MS: Final = 200.0
MEMORY_GOAL_BYTES: Final = 10_000
_BATCH: Final = 100
"""Deployments made in one transaction."""
_PAUSE_SECONDS: Final = 0.05
"""Between two changes: one is seen everywhere before the next is made."""
_SYSTEM: Final = (
    "You are expert {number} on {{{{ country }}}}. Answer questions in {{{{ language }}}}, in at most {{{{ count }}}} "
    "sentences. If you do not know, say so; never invent names, numbers or dates."
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured."""

    furnish_seconds: float
    snapshot_seconds: Sequence[float]
    """Of single fresh followers, one after the other."""
    grown_bytes: Sequence[float]
    """By which each of their processes grew."""
    variants: int
    all_seconds: float
    """Until all 50 had their snapshots, at once."""
    delays_ms: Sequence[float]
    """From a write's answer to the last view, ascending."""
    first_ms: Sequence[float]
    """To the first view, ascending."""


class Writer:
    """Calls the registry with the platform's key."""

    def __init__(self, installation: Installation) -> None:
        self._channel = grpc.aio.insecure_channel(installation.address("registry"))
        self._process = installation.process("registry")
        self._metadata = (("authorization", f"Bearer {installation.secrets.platform_key}"),)
        stub: DeploymentServiceAsyncStub = DeploymentServiceStub(self._channel)
        self._stub = stub

    async def furnish(self, deployments: int) -> None:
        """A project `bench` with a provider, and its deployments `d0`, `d1` …"""
        projects: ProjectServiceAsyncStub = ProjectServiceStub(self._channel)
        providers: ProviderServiceAsyncStub = ProviderServiceStub(self._channel)
        await projects.CreateProject(
            project_service_pb2.CreateProjectRequest(project_id="bench"), metadata=self._metadata
        )
        provider = provider_pb2.Provider(kind=provider_pb2.PROVIDER_KIND_OPENAI)
        request = provider_service_pb2.CreateProviderRequest(
            parent="projects/bench", provider_id="main", provider=provider
        )
        await providers.CreateProvider(request, metadata=self._metadata)
        deployment = deployment_pb2.Deployment(kind=deployment_pb2.DEPLOYMENT_KIND_COMPLETION)
        for variant in range(VARIANTS):
            version = deployment.variants.add(weight=20).completion.new_version
            version.provider, version.model = "main", "bench-model"
            version.messages.add(role=message_pb2.ROLE_SYSTEM, content=_text(variant))
        first = deployment_service_pb2.CreateDeploymentRequest(
            parent="projects/bench", deployment_id="d0", deployment=deployment, skip_model_check=True
        )
        await self._stub.CreateDeployment(first, metadata=self._metadata, timeout=60)
        # It would follow each of them, on the same two cores.
        await asyncio.to_thread(self._process.stop)
        url = self._process.environment["TURNOUT_REGISTRY_DATABASE_URL"]
        async with database.sessions(url, schema=tables.SCHEMA) as sessions:
            store = PostgresStore(sessions, ChangeLog(tables.SCHEMA))
            for start in range(1, deployments, _BATCH):
                await _add(store, range(start, min(start + _BATCH, deployments)))
        await asyncio.to_thread(self._process.start)

    async def change(self, number: int) -> int:
        """Change the weight of one variant; the sequence of the change."""
        request = deployment_service_pb2.UpdateVariantRequest()
        request.variant.name = f"projects/bench/deployments/d{number % 100}/variants/variant-1"
        request.variant.weight = 1 + number % 97 / 10
        request.update_mask.paths.append("weight")
        call = self._stub.UpdateVariant(request, metadata=self._metadata, timeout=20)
        await call
        return int(dict(await call.trailing_metadata() or ())["turnout-sequence"])

    async def close(self) -> None:
        await self._channel.close()


async def _add(store: PostgresStore, numbers: Sequence[int]) -> None:
    """Deployments like `d0`, in one transaction."""
    async with store.writing() as tx:
        project = await tx.project("bench")
        assert project is not None
        like = await tx.deployment(project, "d0")
        assert like is not None
        versions = {each.uid: each for each in await tx.things(project, like.live) if isinstance(each, Version)}
        numbered = await tx.next_number("variant", VARIANTS * len(numbers))
        things: list[Thing] = []
        for number in numbers:
            variants = []
            for index, variant in enumerate(like.live.variants):
                assert isinstance(variant.serving, Completion)
                content = versions[variant.serving.version].content
                message = values.replace(content.messages[0], content=_text(number * VARIANTS + index))
                content = replace(content, messages=(message,))
                version = replace(
                    versions[variant.serving.version],
                    uid=version_id(content),
                    content=content,
                    created_in=tx.sequence,
                )
                await tx.add_version(version)
                things.append(version)
                serving = replace(variant.serving, version=version.uid)
                variants.append(replace(variant, uid=ids.new_uid("var"), number=numbered, serving=serving))
                numbered += 1
            revision = replace(like.live, uid=ids.new_uid("rev"), variants=tuple(variants))
            deployment = replace(
                like,
                uid=ids.new_uid("dep"),
                slug=f"d{number}",
                revisions=(revision,),
                aliases=tuple(replace(alias, revision=revision.uid) for alias in like.aliases),
                record=replace(like.record, created_in=tx.sequence, changed_in=tx.sequence),
            )
            await tx.add_deployment(deployment)
            things.append(deployment)
        await tx.announce(things)


def _text(number: int) -> str:
    return _SYSTEM.format(number=number)


async def measure(installation: Installation, options: argparse.Namespace) -> Figures:
    """Furnish, then measure; all followers end before the next begin."""
    writer = Writer(installation)
    began = time.monotonic()
    await writer.furnish(options.deployments)
    furnished = time.monotonic() - began
    address, key = installation.address("registry"), installation.secrets.service_key
    snapshots, grown = [], []
    for _ in range(options.repeats):
        async with Followers(address, key, processes=1, each=1) as alone:
            told = (await alone.start())[0]
            snapshots.append(told.seconds)
            grown.append(told.grown_bytes)
    each = FOLLOWERS // options.processes
    async with Followers(address, key, processes=options.processes, each=each) as followers:
        all_began = time.monotonic()
        await followers.start()
        all_seconds = time.monotonic() - all_began
        last, first = [], []
        for number in range(options.changes):
            sequence = await writer.change(number)
            answered = time.monotonic()
            arrivals = await followers.arrivals(sequence)
            last.append(1000 * max(0.0, max(arrivals) - answered))
            first.append(1000 * max(0.0, min(arrivals) - answered))
            await asyncio.sleep(_PAUSE_SECONDS)
        views = await followers.digests()
        if len(views) != FOLLOWERS or len(set(views)) != 1:
            raise AssertionError("the followers' views differ")
    await writer.close()
    variants = options.deployments * VARIANTS
    return Figures(furnished, snapshots, grown, variants, all_seconds, sorted(last), sorted(first))


def report(figures: Figures, options: argparse.Namespace) -> bool:
    """Print for people; whether every goal is reached."""
    load = os.getloadavg()[0]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {interpreter()}")
    print(f"{options.deployments:,} deployments × {VARIANTS} variants, made in {figures.furnish_seconds:.0f} s")
    snapshot, memory = max(figures.snapshot_seconds), max(figures.grown_bytes) / figures.variants
    p50, p99 = percentile(figures.delays_ms, 0.5), percentile(figures.delays_ms, 0.99)
    print(f"snapshot of a fresh follower: {_spread(figures.snapshot_seconds)} s, goal {SNAPSHOT_GOAL_SECONDS:.0f} s")
    print(f"its memory: {memory:,.0f} bytes a variant, goal {MEMORY_GOAL_BYTES:,}")
    print(f"{FOLLOWERS} followers in {options.processes} processes: all snapshots within {figures.all_seconds:.1f} s")
    print(
        f"{len(figures.delays_ms)} changes, from the write's answer to the last of {FOLLOWERS} views: "
        f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, goal {CHANGE_GOAL_MS:.0f} ms; "
        f"to the first: p50 {percentile(figures.first_ms, 0.5):.0f} ms"
    )
    print(f"load of the machine in the last minute: {load:.1f}")
    return snapshot <= SNAPSHOT_GOAL_SECONDS and memory <= MEMORY_GOAL_BYTES and p99 <= CHANGE_GOAL_MS


def _spread(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.2f}" for value in values)


def main() -> int:
    """Measure and print; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.catalog", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--deployments", type=int, default=10_000, help="how many (default 10000)")
    parser.add_argument("--changes", type=int, default=200, help="how many are followed (default 200)")
    parser.add_argument("--processes", type=int, choices=(1, 2, 5, 10, 25, 50), default=10, help="of the 50 followers")
    parser.add_argument("--repeats", type=int, default=3, help="fresh followers that are timed (default 3)")
    options = parser.parse_args()
    with surroundings() as around:
        installation = Grouped(
            around.folder / "installation",
            (("registry",),),
            postgres=around.postgres,
            nats=around.nats,
            extra={"TURNOUT_OTLP_ENDPOINT": ""},
        )
        with installation:
            figures = uvloop.run(measure(installation, options))
        return 0 if report(figures, options) else 1


if __name__ == "__main__":
    sys.exit(main())
