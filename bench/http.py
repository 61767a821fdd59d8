"""HTTP chat completion against an instant upstream: `make bench WHAT=http`.

Gateway and executor are one process on one core, and everything is on: authentication, routing, template rendering,
events to the spool and on to JetStream, payload capture, 10 % traces to a collector that discards them. Registry,
router and inference are a process on the other cores, as are NATS, Postgres, the upstream and the callers. Analytics is
stopped while calls are timed and started afterwards to count what arrived: any status but 2xx, any answer without a
choice, any event that is missing or doubled, and any call that reached the upstream not exactly once fails the run.

In the same run, by the same callers, with the same question: straight to the upstream, so that "added" latency is a
difference within one run; and through other gateways, on the core that ours has, each right after ours. `make
bench-peers` installs them; one that is not there is named. `--stream` measures 200 streams at once instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench import peers
from bench.cores import Cores, busy_seconds, running_on
from bench.figures import Row, caches, cpu_seconds, interpreter, ratio, row_of, table
from bench.hotspots import Recording
from bench.jobs import JobFailed
from bench.peers import Absent, Subject
from bench.surroundings import DEPLOYMENT, ON, QUESTION, VARIABLES, Surroundings, count_events, furnish, surroundings
from stack.services import Installation

CONCURRENCIES: Final = (1, 10, 50)
PROFILED_CONCURRENCY: Final = 10
SERVING: Final = ("executor", "gateway")
GROUPS: Final = (("registry", "router", "inference"), SERVING, ("analytics",))

DIRECT: Final = "straight to the upstream"
OURS: Final = "Turnout"
STREAMS: Final = 200
PIECES: Final = 100


@dataclass(slots=True)
class Results:
    """What a run found."""

    rows: list[Row] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    """Why a peer has no row, or not all of them."""
    calls: int = 0
    """Of ours, warm-ups included."""
    events: int = 0
    foreign_shares: dict[tuple[str, int], float] = field(default_factory=dict)
    """Which share of the measured core others took, by subject and concurrency."""
    caller_cpu_ms: float = 0.0
    """Of the caller, for one call of ours."""
    failure: str = ""
    """Why the run fails; empty if it does not."""


@dataclass(frozen=True, slots=True)
class _Work:
    """What was done up to a moment, in seconds."""

    on_the_core: float
    by_the_subject: float
    at: float

    @classmethod
    def so_far(cls, subject: Subject, cores: Cores) -> _Work:
        times = os.times()
        own = cpu_seconds(subject.job.pid) if subject.job.pid else times.children_user + times.children_system
        return cls(busy_seconds(cores.serving), own, time.monotonic())

    def foreign_share(self, subject: Subject, cores: Cores) -> float:
        now = _Work.so_far(subject, cores)
        own = now.by_the_subject - self.by_the_subject
        return max(0.0, (now.on_the_core - self.on_the_core - own) / (now.at - self.at))


class Bench:
    """One run."""

    def __init__(self, upstream: dict[str, Any], cores: Cores, seconds: float) -> None:
        self._upstream: str = upstream["address"]
        self._cores = cores
        self._seconds = seconds
        self.results = Results()
        self.direct = peers.over_http(DIRECT, self._upstream, upstream["pid"], peers.rendered_body(), cores, headers={})

    def ours(self, installation: Installation, key: str, sequence: str, **more: object) -> Subject:
        """Turnout, once the gateway knows the deployment."""
        serving = installation.process("gateway")
        body = {
            "model": f"turnout/deployment/{DEPLOYMENT}",
            "messages": [{"role": "user", "content": QUESTION}],
            "input": VARIABLES,
            **more,
        }
        headers = {"authorization": f"Bearer {key}", "turnout-sequence": sequence}
        return peers.over_http(OURS, serving.http_address, serving.pid, json.dumps(body), self._cores, headers=headers)

    def measure(self, ours: Subject, others: Sequence[Subject]) -> None:
        """Each at each concurrency, ours before the others."""
        for concurrency in CONCURRENCIES:
            self._measure(self.direct, concurrency)
            self._measure(ours, concurrency)
            for other in others:
                if other.name not in self.results.absent:
                    with other.awake():
                        self._measure_peer(other, concurrency)

    def profile(self, ours: Subject, target: Path, concurrency: int) -> str:
        """Where ours spends its time, by a load of its own: watching costs, so nothing is measured meanwhile."""
        recording = Recording.begin(ours.job.pid, target, self._seconds + ours.job.stream_seconds)
        outcome = ours.measure(concurrency=concurrency, seconds=self._seconds)
        self.results.calls += outcome.all_calls
        return recording.summary()

    def _measure_peer(self, peer: Subject, concurrency: int) -> None:
        try:
            self._measure(peer, concurrency)
        except JobFailed as failed:
            self.results.absent[peer.name] = f"with {concurrency} callers at once: {failed}"

    def _measure(self, subject: Subject, concurrency: int) -> None:
        """:raises JobFailed: a call that failed, or reached the upstream not once"""
        print(f"{subject.name}, {concurrency} at once …", end="\r", file=sys.stderr, flush=True)
        before, work = self._upstream_calls(), _Work.so_far(subject, self._cores)
        outcome = subject.measure(concurrency=concurrency, seconds=self._seconds)
        if subject.name != DIRECT:  # which works on the other cores
            self.results.foreign_shares[subject.name, concurrency] = work.foreign_share(subject, self._cores)
        reached = self._upstream_calls() - before
        if reached != outcome.all_calls:
            raise JobFailed(f"{outcome.all_calls} calls of {subject.name} made {reached} of the upstream")
        row = row_of(subject.name, concurrency, outcome.latencies, outcome.seconds, outcome.cpu_seconds, outcome.rss_mb)
        self.results.rows.append(row)
        if subject.name == OURS:
            self.results.calls += outcome.all_calls
            self.results.caller_cpu_ms = outcome.caller_cpu_seconds / row.calls * 1000

    def measure_streams(self, ours: Subject, bare: Subject, interval_seconds: float) -> None:
        """Streams straight to the upstream, then through Turnout, then through the bare prototype."""
        body = peers.rendered_body(stream=True)
        with bare.awake():
            for subject in (replace(self.direct, job=replace(self.direct.job, body=body)), ours, bare):
                self._measure(streaming(subject, interval_seconds), STREAMS)

    def _upstream_calls(self) -> int:
        with urllib.request.urlopen(f"http://{self._upstream}/stats", timeout=10) as answer:
            return int(json.load(answer)["calls"])


def streaming(subject: Subject, interval_seconds: float) -> Subject:
    """The same, asked for streams."""
    job = replace(subject.job, stream_pieces=PIECES, stream_seconds=PIECES * interval_seconds)
    return replace(subject, job=job)


def enter_peers(stack: ExitStack, bench: Bench, around: Surroundings, upstream: str, cores: Cores) -> list[Subject]:
    """Those that are there, started; of the others, why not."""
    there = []
    lean = partial(peers.lean, nats=around.nats.url, otlp=around.otlp)
    everybody: dict[str, peers.Enter] = {
        **peers.ALL,
        **peers.alike(around.otlp, around.database),
        peers.BARE: peers.bare,
        peers.LEAN: lean,
    }
    for name, enter in everybody.items():
        folder = around.folder / name.lower().replace(",", "").replace(" ", "-")
        folder.mkdir()
        print(f"{name} starts …", end="\r", file=sys.stderr, flush=True)
        try:
            there.append(stack.enter_context(enter(folder, upstream, cores)))
        except Absent as absent:
            bench.results.absent[name] = str(absent)
    return there


def main() -> int:
    """Measure and print; 1 if a call of ours failed or an event is missing or doubled."""
    options = _parse()
    cores = Cores.divided()
    with running_on(cores.others), surroundings() as around, ExitStack() as stack:
        interval = options.interval_ms / 1000
        arguments = ("--chunks", str(PIECES), "--chunk-interval-ms", str(options.interval_ms))
        upstream = around.program("bench.upstream", "--port", "0", *arguments)
        keep = dict.fromkeys(SERVING, cores.serving)
        installation = around.installation(GROUPS, settings=options.set, cores=keep)
        furnished = asyncio.run(furnish(installation, f"http://{upstream['address']}/v1"))
        bench = Bench(upstream, cores, options.seconds)
        results = bench.results
        try:
            if options.stream:
                ours = bench.ours(installation, furnished.key, furnished.sequence, stream=True)
                bare = stack.enter_context(peers.bare(around.folder, upstream["address"], cores))
                body = json.dumps(json.loads(bare.job.body) | {"stream": True})
                bench.measure_streams(ours, replace(bare, job=replace(bare.job, body=body)), interval)
                ours = streaming(ours, interval)
            else:
                ours = bench.ours(installation, furnished.key, furnished.sequence)
                others = [] if options.alone else enter_peers(stack, bench, around, upstream["address"], cores)
                bench.measure(ours, others)
            if options.profile:
                concurrency = STREAMS if options.stream else PROFILED_CONCURRENCY
                print(bench.profile(ours, options.profile, concurrency), end="\n\n")
            results.events = asyncio.run(count_events(installation, furnished.sequence, results.calls))
        except JobFailed as failed:
            results.failure = str(failed)
        report(results, cores, options.set, interval if options.stream else None)
        if options.json:
            options.json.write_text(json.dumps([asdict(row) for row in results.rows]))
    return 1 if results.failure or results.events != results.calls else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.http", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=10, help="how long each load is timed (default 10)")
    parser.add_argument("--alone", action="store_true", help="leave the peers out")
    parser.add_argument("--stream", action="store_true", help=f"{STREAMS} streams at once of {PIECES} pieces")
    parser.add_argument("--interval-ms", type=float, default=50, help="between two pieces of a stream (default 50)")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    parser.add_argument(
        "--profile", type=Path, help="write py-spy stacks of ours at 10 at once, or of streams, here; show a summary"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting to try; not the default run"
    )
    return parser.parse_args()


def report(results: Results, cores: Cores, settings: Sequence[str], interval_seconds: float | None) -> None:
    """A table for people.

    :param interval_seconds: between the pieces of streams; None: whole answers were measured
    """
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {interpreter()}")
    print(f"on: {ON}")
    if cores.are_divided:
        print(f"measured on core {_list(cores.serving)}; callers, upstream and all the rest on {_list(cores.others)}")
    else:
        print("ONE CORE FOR EVERYTHING: what is measured shares it with callers and upstream")
    if settings:
        print(f"differently from that: {', '.join(settings)}")
    if interval_seconds is not None:
        print(f"streams of {PIECES} pieces, {interval_seconds * 1000:g} ms apart; times are those to the first piece")
        print(caches())
    print()
    print(table(_HEADS, [_line(row, results.rows) for row in results.rows]))
    print()
    if results.absent or {row.name for row in results.rows} & set(peers.ALL):
        print("ours/its: above 1 is for us in calls/s, below 1 in p50 and CPU; TensorZero answers without a socket")
        for name in (*peers.ALL, *(name for name in results.absent if name not in peers.ALL)):
            print(f"{name}: {results.absent.get(name, peers.version(name))}")
    worst: dict[str, float] = {}
    for (name, _), share in results.foreign_shares.items():
        worst[name] = max(share, worst.get(name, 0.0))
    if worst:
        shares = ", ".join(f"{name} up to {share:.0%}" for name, share in worst.items())
        print(f"the measured core was taken by others, while it was measured: {shares}")
    print(f"the callers took {results.caller_cpu_ms:.3f} ms CPU for a call of ours")
    if results.failure:
        print(f"FAILED: {results.failure}")
        return
    print(f"{results.calls} calls, none failed; {results.events} events counted by analytics", end="")
    print("" if results.calls == results.events else " — THEY DIFFER")


_HEADS: Final = (
    "",
    "at once",
    "calls/s",
    "p50 ms",
    "p99 ms",
    "added p50",
    "added p99",
    "CPU ms",
    "RSS MB",
    "ours/its calls/s",
    "ours/its p50",
    "ours/its CPU",
)


def _line(row: Row, rows: Sequence[Row]) -> tuple[str, ...]:
    beside = {other.name: other for other in rows if other.concurrency == row.concurrency}
    straight, ours = beside.get(DIRECT), beside.get(OURS)
    added, ratios = ("", ""), ("", "", "")
    if row is not straight and straight is not None:
        added = (f"{row.p50_ms - straight.p50_ms:.2f}", f"{row.p99_ms - straight.p99_ms:.2f}")
        if row is not ours and ours is not None:
            ratios = (
                f"{ratio(ours.rate, row.rate):.2f}",
                f"{ratio(ours.p50_ms, row.p50_ms):.2f}",
                f"{ratio(ours.cpu_ms, row.cpu_ms):.2f}",
            )
    shown = (f"{row.rate:.0f}", f"{row.p50_ms:.2f}", f"{row.p99_ms:.2f}")
    cost = (f"{row.cpu_ms:.3f}", f"{row.rss_mb:.0f}")
    return (row.name, str(row.concurrency), *shown, *added, *cost, *ratios)


def _list(cores: frozenset[int]) -> str:
    return ", ".join(str(core) for core in sorted(cores))


if __name__ == "__main__":
    sys.exit(main())
