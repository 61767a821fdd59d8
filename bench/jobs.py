"""What a caller in a process of its own is told to do, and what it tells of it. Standard library only: a peer's own
environment has nothing else of ours."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
WARM_UP_SHARE: Final = 0.2
"""Of the timed seconds; before them."""
_PATIENCE_SECONDS: Final = 180.0
_QUOTED_LINES: Final = 15


class JobFailed(Exception):
    """A call failed, or the caller did; says how."""


@dataclass(frozen=True, slots=True)
class Job:
    """One load."""

    concurrency: int
    seconds: float
    """Timed, after the warm-up."""
    pid: int = 0
    """Whose CPU and memory is counted; 0: the caller's own, which serves itself."""
    address: str = ""
    """`host:port` of an HTTP server."""
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    stream_pieces: int = 0
    """In how many pieces an answer must come; 0: whole."""
    stream_seconds: float = 0.0
    """About how long a stream takes: their beginnings are spread over it."""
    config: str = ""
    """What an embedded peer is made from: a path."""
    database: str = ""
    """Where it records its calls: a URL; empty: nowhere."""
    question: str = ""
    """What an embedded peer is asked."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """And with which variables for its template."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a job measured. Every call of it succeeded."""

    latencies: Sequence[float]
    """Seconds; of a stream, to its first piece."""
    seconds: float
    """How long the timed part took."""
    cpu_seconds: float
    rss_mb: float
    all_calls: int
    """The warm-up's included."""
    caller_cpu_seconds: float
    """What the caller itself took in the timed part."""


def read_job(text: str) -> Job:
    """A job as `run_job` writes it."""
    return Job(**json.loads(text))


def write_outcome(outcome: Outcome) -> str:
    """As `run_job` reads it."""
    return json.dumps(asdict(outcome))


def run_job(job: Job, command: Sequence[str | Path], environment: Mapping[str, str]) -> Outcome:
    """Run `command` with the job on its standard input and the outcome in the last line of its standard output. Blocks.

    That output is a file: an outcome may have a megabyte, and through a pipe one once arrived cut off after 128 KiB of
    it, from a caller that had ended well.

    :raises JobFailed: with the last lines of what it said, or if its outcome is none
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8") as output:
        try:
            done = subprocess.run(
                command,
                input=json.dumps(asdict(job)),
                env=dict(environment),
                cwd=ROOT,
                stdout=output,
                stderr=subprocess.PIPE,
                text=True,
                timeout=job.seconds * (1 + WARM_UP_SHARE) + job.stream_seconds * 2 + _PATIENCE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise JobFailed("its caller did not come to an end") from None
        if done.returncode != 0:
            said = done.stderr.strip().splitlines()[-_QUOTED_LINES:]
            raise JobFailed("\n".join(said) or f"status {done.returncode}")
        output.seek(0)
        return _outcome(output.read())


def _outcome(output: str) -> Outcome:
    lines = output.splitlines() or [""]
    try:
        told: dict[str, Any] = json.loads(lines[-1])
    except json.JSONDecodeError as error:
        raise JobFailed(
            f"its caller ended well, but said {len(output)} characters that are no outcome: {error}"
        ) from None
    return Outcome(**told)
