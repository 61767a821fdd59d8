"""Two versions of Turnout by turns in one run: `make bench WHAT=versions ARGS="--against ../before"`.

On a machine that others share, one version differs from itself between two runs by more than a change is worth: 0.3 ms
of 1.3 to a stream's first piece were seen. So both are started, everything on as in `bench.http`, each from its own
folder with its own Python, and are called in turn for some seconds, in each round in the other order; what counts is
the difference inside a round. `--against` is a checkout in which `make install` was done; this one itself shows how
much is chance.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final, NoReturn

from bench import peers
from bench.cores import Cores, running_on
from bench.figures import Row, interpreter, row_of, table
from bench.http import DIRECT, GROUPS, OURS, PIECES, SERVING, STREAMS, Bench
from bench.jobs import ROOT, JobFailed
from bench.surroundings import ON, count_events, furnish, surroundings

THIS: Final = "this"
OTHER: Final = "the other"
_AT_ONCE: Final = 10


@dataclass(frozen=True, slots=True)
class Turn:
    """What is asked of each in a turn."""

    at_once: int
    seconds: float
    interval_ms: float | None
    """Between a stream's pieces; None: whole answers."""
    pieces: int


class Side:
    """One version, in a process of its own folder."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self._folder = folder
        self._process = process
        self._answer()

    def turn(self, name: str) -> Row:
        """Call it for a turn, or the upstream straight.

        :raises JobFailed: if a call fails
        """
        self._say(name)
        return Row(**self._answer())

    def end(self) -> None:
        """Wait until analytics has counted what was called.

        :raises JobFailed: if an event is missing or doubled
        """
        self._say("end")
        self._answer()

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None  # a pipe
        try:
            print(word, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            self._fail()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None  # a pipe
        line = self._process.stdout.readline()
        if not line:
            self._fail()
        told: dict[str, Any] = json.loads(line)
        if failure := told.get("failure"):
            raise JobFailed(f"{self._folder}: {failure}")
        return told

    def _fail(self) -> NoReturn:
        raise JobFailed(f"{self._folder}: ended with status {self._process.wait()}; its last lines are above")


@contextmanager
def side(folder: Path, turn: Turn) -> Iterator[Side]:
    """A version, started.

    :raises JobFailed: if it does not start
    """
    python = folder / ".venv" / "bin" / "python"
    if not python.exists():
        raise JobFailed(f"{folder} has no .venv/bin/python: run `make install` there")
    # All but this file is the folder's own, by its .venv. -P keeps bench/ off the path: its http.py would hide Python's
    command = [str(python), "-P", __file__, "--serve", json.dumps(asdict(turn))]
    process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:  # which closes its input: the end of what it does
        yield Side(folder, process)


def serve(turn: Turn) -> None:
    """Be one side: do what standard input says, and answer each line with one."""
    cores = Cores.divided()
    with running_on(cores.others), surroundings() as around:
        interval = turn.interval_ms
        pieces = () if interval is None else ("--chunks", str(turn.pieces), "--chunk-interval-ms", str(interval))
        upstream = around.program("bench.upstream", "--port", "0", *pieces)
        installation = around.installation(GROUPS, settings=(), cores=dict.fromkeys(SERVING, cores.serving))
        furnished = asyncio.run(furnish(installation, f"http://{upstream['address']}/v1"))
        bench = Bench(upstream, cores, turn.seconds)
        ours, direct = bench.ours(installation, furnished.key, furnished.sequence), bench.direct
        if interval is not None:
            ours = bench.ours(installation, furnished.key, furnished.sequence, stream=True)
            direct = replace(direct, job=replace(direct.job, body=peers.rendered_body(stream=True)))
            # Not by `bench.http.streaming`: an older checkout's knows one number of pieces only.
            length = turn.pieces * interval / 1000
            ours, direct = (
                replace(each, job=replace(each.job, stream_pieces=turn.pieces, stream_seconds=length))
                for each in (ours, direct)
            )
        calls = 0
        _tell({})
        for line in sys.stdin:
            try:
                if line.strip() == "end":
                    events = asyncio.run(count_events(installation, furnished.sequence, calls))
                    _tell({} if events == calls else {"failure": f"{calls} calls, but {events} events"})
                    break
                subject = direct if line.strip() == DIRECT else ours
                outcome = subject.measure(concurrency=turn.at_once, seconds=turn.seconds)
            except JobFailed as failed:
                _tell({"failure": str(failed)})
                break
            calls += outcome.all_calls if subject is ours else 0
            figures = (outcome.latencies, outcome.seconds, outcome.cpu_seconds, outcome.rss_mb)
            _tell(asdict(row_of(subject.name, turn.at_once, *figures)))


def _tell(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)


def take_turns(this: Side, other: Side, rounds: int) -> dict[str, list[Row]]:
    """Each in turn.

    :raises JobFailed: if a call fails, or an event is missing or doubled
    """
    rows: dict[str, list[Row]] = {DIRECT: [], THIS: [], OTHER: []}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds} …", end="\r", file=sys.stderr, flush=True)
        rows[DIRECT].append(this.turn(DIRECT))
        turns = [(THIS, this), (OTHER, other)]
        for name, each in turns if number % 2 == 0 else reversed(turns):
            rows[name].append(each.turn(OURS))
    for each in (this, other):
        each.end()
    return rows


def report(rows: dict[str, list[Row]]) -> str:
    """A table, and what the difference is worth."""
    lines = []
    for name, found in rows.items():
        added = [row.p50_ms - straight.p50_ms for row, straight in zip(found, rows[DIRECT], strict=True)]
        spread = (f"{median(added):.3f}", f"{min(added):.2f} … {max(added):.2f}") if name != DIRECT else ("", "")
        rate, p50, cpu = (median(each) for each in zip(*((r.rate, r.p50_ms, r.cpu_ms) for r in found), strict=True))
        lines.append((name, f"{rate:.0f}", f"{p50:.3f}", *spread, f"{cpu:.3f}"))
    pairs = list(zip(rows[THIS], rows[OTHER], strict=True))
    gained = [this.p50_ms - other.p50_ms for this, other in pairs]
    saved = [this.cpu_ms - other.cpu_ms for this, other in pairs]
    heads = ("medians of all rounds", "calls/s", "p50 ms", "added p50", "least … most", "CPU ms")
    return (
        f"{table(heads, lines)}\n\n"
        f"this less the other, in the same round: p50 {median(gained):+.3f} ms, "
        f"CPU {median(saved):+.3f} ms; lower in {sum(each < 0 for each in gained)} "
        f"and {sum(each < 0 for each in saved)} of {len(pairs)} rounds"
    )


def main() -> int:
    """Measure and print; 1 if a call failed or an event was lost or doubled."""
    options = _parse()
    if options.serve:
        serve(Turn(**json.loads(options.serve)))
        return 0
    at_once = options.at_once or (STREAMS if options.stream else _AT_ONCE)
    turn = Turn(at_once, options.seconds, options.interval_ms if options.stream else None, options.pieces)
    try:
        with ExitStack() as stack:
            this = stack.enter_context(side(ROOT, turn))
            other = stack.enter_context(side(options.against.resolve(), turn))
            rows = take_turns(this, other, options.rounds)
    except JobFailed as failed:
        print(f"FAILED: {failed}")
        return 1
    what = "whole answers"
    if turn.interval_ms is not None:
        what = f"streams of {turn.pieces} pieces, {turn.interval_ms:g} ms apart, timed to the first"
    print(f"{interpreter()}; {at_once} at once; {what}\non: {ON}\n\n{report(rows)}")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.versions", description=(__doc__ or "").split("\n\n")[0])
    role = parser.add_mutually_exclusive_group(required=True)
    role.add_argument("--against", type=Path, metavar="FOLDER", help="the other version: a checkout, installed")
    parser.add_argument("--rounds", type=int, default=10, help="how often each has its turn (default 10)")
    parser.add_argument("--seconds", type=float, default=3, help="how long a turn is timed (default 3)")
    parser.add_argument("--at-once", type=int, help=f"callers (default {_AT_ONCE}, {STREAMS} streams)")
    parser.add_argument("--stream", action="store_true", help="streams instead of whole answers")
    parser.add_argument("--pieces", type=int, default=PIECES, help=f"of a stream (default {PIECES})")
    parser.add_argument("--interval-ms", type=float, default=50, help="between two pieces of a stream (default 50)")
    role.add_argument("--serve", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
