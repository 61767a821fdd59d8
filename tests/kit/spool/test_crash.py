"""Whatever dies whenever: every event arrives, every call ends once, ids stay."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from hypothesis import given, settings
from hypothesis import strategies as st

from kit.spool import Call, Event, Spool, SpoolOptions

if TYPE_CHECKING:
    from tests.kit.spool.conftest import Broker, MakeSpool, Running, Until


@dataclass(frozen=True)
class Open:
    padding: int


@dataclass(frozen=True)
class Close:
    which: int
    events: int


@dataclass(frozen=True)
class Append:
    padding: int


@dataclass(frozen=True)
class Relay:
    """Relay until the broker has taken so many records."""

    budget: int


@dataclass(frozen=True)
class Crash:
    """Die in the middle of `during`, at this share of what it wrote; the cursor may be torn, too."""

    during: Open | Close | Append | Relay
    share: float
    cursor_bytes: int | None


Write: TypeAlias = Open | Close | Append

writes = (
    st.builds(Open, st.integers(0, 200))
    | st.builds(Close, st.integers(0, 9), st.integers(0, 3))
    | st.builds(Append, st.integers(0, 200))
)
relays = st.builds(Relay, st.integers(0, 6))
crashes = st.builds(Crash, writes | relays, st.floats(0, 1), st.none() | st.integers(0, 15))


@dataclass
class World:
    """The spool under test, and what it promised."""

    base: Path
    options: Callable[..., SpoolOptions]
    broker: Broker
    running: Running
    until: Until
    segment_bytes: int
    retention_seconds: float
    in_flight: dict[bytes, Call] = field(default_factory=dict)
    opened: set[bytes] = field(default_factory=set)
    closed: set[bytes] = field(default_factory=set)
    written: list[bytes] = field(default_factory=list)
    in_doubt: set[bytes] = field(default_factory=set)
    doubtful_ends: dict[bytes, list[bytes]] = field(default_factory=dict)
    generations: list[list[bytes]] = field(default_factory=lambda: [[]])
    """What each process wrote, in order."""
    names: itertools.count[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        self.root = self.base / "0"
        self.root.mkdir()
        self.spool = self.start()

    def start(self, **given: object) -> Spool:
        given = {"segment_bytes": self.segment_bytes, "retention_seconds": self.retention_seconds} | given
        options = self.options(self.root, batch_records=3, **given)
        return Spool(options, lost=lambda payload: Event("lost", payload))

    def write(self, step: Write) -> None:
        if isinstance(step, Open):
            name = b"call%d " % next(self.names) + b"x" * step.padding
            self.in_flight[name] = self.spool.open_call(name)
            self.opened.add(name)
        elif isinstance(step, Append):
            name = b"event%d " % next(self.names) + b"x" * step.padding
            self.spool.append(Event("event", name))
            self.written.append(name)
            self.generations[-1].append(name)
        elif self.in_flight:
            name = sorted(self.in_flight)[step.which % len(self.in_flight)]
            payloads = [b"%s#%d" % (name, index) for index in range(step.events)]
            self.spool.close_call(self.in_flight.pop(name), [Event("end", payload) for payload in payloads])
            self.closed.add(name)
            self.written += payloads
            self.generations[-1] += payloads

    async def relay(self, budget: int) -> None:
        self.broker.budget, failures = budget, self.broker.failures

        def is_done() -> bool:
            usage = self.spool.usage
            return self.broker.failures > failures or (
                not usage.pending_records and usage.folders >= len(self.folders())
            )

        async with self.running(self.spool, self.broker):
            await self.until(is_done, 2)

    async def crash(self, step: Crash) -> None:
        sizes = self.sizes()
        before = (set(self.opened), set(self.closed), list(self.written))
        if isinstance(step.during, Relay):
            await self.relay(step.during.budget)
        else:
            self.write(step.during)
            # What was being written when it died was promised to nobody: it may be there or not.
            events = self.written[len(before[2]) :]
            self.in_doubt |= self.opened - before[0] | self.closed - before[1] | set(events)
            self.doubtful_ends |= dict.fromkeys(self.closed - before[1], events)
            self.opened, self.closed, self.written = before
        dead, self.root = self.root, self.base / str(int(self.root.name) + 1)
        shutil.copytree(dead, self.root)
        # A dropped segment rests on what was written before it went; only without drops may a relay's writes be undone.
        if not isinstance(step.during, Relay) or self.retention_seconds:
            # Of each folder the last segment only: a death does not reach into those before.
            for path in {path.parent: path for path in sorted(self.root.glob("*/*.seg"))}.values():
                begin = sizes.get(str(path.relative_to(self.root)), 0)
                if (grown := path.stat().st_size - begin) > 0:
                    os.truncate(path, begin + int(grown * step.share))
        if step.cursor_bytes is not None:
            for path in self.root.glob("*/cursor"):
                os.truncate(path, min(step.cursor_bytes, path.stat().st_size))
        self.spool.close()
        shutil.rmtree(dead)
        self.in_flight.clear()
        self.generations.append([])
        self.spool = self.start()

    async def finish(self) -> None:
        """One more crash, then recovery with a broker that takes everything."""
        await self.crash(Crash(Append(0), 1.0, None))
        self.spool.close()
        self.spool = self.start(retention_seconds=0)
        self.broker.budget = None
        async with self.running(self.spool, self.broker):
            await self.until(lambda: len(self.folders()) == 1 and not self.spool.usage.pending_records, 2)
        assert self.spool.usage.corrupt_segments == 0
        self.spool.close()

    def folders(self) -> list[Path]:
        return sorted(path for path in self.root.iterdir() if path.name != "rejected")

    def sizes(self) -> dict[str, int]:
        return {str(path.relative_to(self.root)): path.stat().st_size for path in self.root.glob("*/*.seg")}

    def check(self) -> None:
        ids: dict[tuple[str, bytes], set[str]] = defaultdict(set)
        for record in self.broker.taken:
            ids[record.subject, record.payload].add(record.id)
        assert all(len(of_one) == 1 for of_one in ids.values()), "an id changed"
        arrived = {payload for subject, payload in ids if subject != "lost"}
        lost = {payload for subject, payload in ids if subject == "lost"}
        assert arrived >= set(self.written), "an event was lost"
        assert arrived <= set(self.written) | self.in_doubt
        assert lost >= self.opened - self.closed - self.in_doubt, "a call vanished"
        assert not lost & self.closed, "a call that ended was reported lost"
        assert not {payload.rpartition(b"#")[0] for payload in arrived} & lost, "a call both ended and was lost"
        for name, payloads in self.doubtful_ends.items():
            ended = set(payloads) <= arrived if payloads else name not in lost
            assert ended != (name in lost), "a call whose end was being written did both or neither"
        first: dict[bytes, int] = {}
        for place, record in enumerate(self.broker.taken):
            first.setdefault(record.payload, place)
        for payloads in self.generations:
            places = [first[payload] for payload in payloads if payload in arrived]
            assert places == sorted(places), "the order changed"


@settings(max_examples=40, deadline=None)
@given(
    steps=st.lists(writes | writes | relays | crashes, max_size=30),
    segment_bytes=st.sampled_from([64, 400, 1 << 20]),
    retention_seconds=st.sampled_from([0.0, 3600.0]),
)
def test_every_event_arrives_and_every_call_ends_or_is_lost_whenever_the_process_dies(
    steps: list[Write | Relay | Crash],
    segment_bytes: int,
    retention_seconds: float,
    make_broker: Callable[[], Broker],
    options: Callable[..., SpoolOptions],
    running: Running,
    until: Until,
) -> None:
    async def live(base: Path) -> None:
        world = World(base, options, make_broker(), running, until, segment_bytes, retention_seconds)
        for step in steps:
            if isinstance(step, Crash):
                await world.crash(step)
            elif isinstance(step, Relay):
                await world.relay(step.budget)
            else:
                world.write(step)
        await world.finish()
        world.check()

    with tempfile.TemporaryDirectory() as base:
        asyncio.run(live(Path(base)))


CHILD = """
import os, sys
from pathlib import Path
from kit.spool import Event, Spool, SpoolOptions

root, name = Path(sys.argv[1]), sys.argv[2]
options = SpoolOptions(root=root, root_setting="", segment_bytes=20_000)
spool = Spool(options, lost=lambda payload: Event("lost", payload))
for number in range(int(sys.argv[3])):
    call = spool.open_call(b"%s-%d" % (name.encode(), number))
    print("opened", number, flush=True)
    if number % 5:
        spool.close_call(call, [Event("end", b"%s-%d" % (name.encode(), number))])
        print("closed", number, flush=True)
os._exit(0)
"""


def start_child(root: Path, name: str, calls: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", CHILD, str(root), name, str(calls)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


async def test_nothing_that_was_reported_written_is_lost_to_kill_9(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    child = start_child(tmp_path, "call", 10_000_000)
    assert child.stdout is not None
    reported = [next(child.stdout).split() for _ in range(3000)]
    child.send_signal(signal.SIGKILL)
    reported += [line.split() for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    child.wait()
    child.stdout.close()

    spool = make_spool(retention_seconds=0)
    async with running(spool, broker):
        await until(lambda: spool.usage.folders == 1 and len(list(tmp_path.iterdir())) == 1)

    ended = {record.payload for record in broker.taken if record.subject == "end"}
    lost = {record.payload for record in broker.taken if record.subject == "lost"}
    opened = {b"call-" + number.encode() for word, *numbers in reported if word == "opened" for number in numbers}
    closed = {b"call-" + number.encode() for word, *numbers in reported if word == "closed" for number in numbers}
    assert len(closed) > 1000
    assert closed <= ended
    assert opened - closed <= ended | lost
    assert opened <= ended | lost
    assert not ended & lost
    assert len(broker.taken) == len(ended) + len(lost)


async def test_two_processes_share_a_root_and_nothing_is_doubled(
    tmp_path: Path, make_spool: MakeSpool, broker: Broker, running: Running, until: Until
) -> None:
    spool = make_spool(retention_seconds=0)
    children = [start_child(tmp_path, name, 500) for name in ("a", "b")]
    async with running(spool, broker):
        # Adopters are at work while both write: they may take a folder only after its owner is gone.
        outputs = [await asyncio.to_thread(child.communicate) for child in children]
        await until(lambda: len(list(tmp_path.iterdir())) == 1)

    assert all(child.returncode == 0 for child in children)
    assert all(output.count("closed") == 400 for output, _ in outputs)
    expected = sorted(b"%s-%d" % (name, number) for name in (b"a", b"b") for number in range(500))
    assert sorted(broker.payloads) == expected
    assert len({record.id for record in broker.taken}) == 1000
    assert sum(record.subject == "lost" for record in broker.taken) == 200
