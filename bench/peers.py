"""Other gateways, measured as ours is: the same upstream, the same question, the same callers, the same core.

`make bench-peers` installs each into an environment of its own (`scripts/bench_peers.sh`, which holds the versions).
Each runs as its maker says, one process, with logging to databases and telemetry off: less than what ours does. Then
once more with as much of what ours does as it offers and as can be had from a package index (:func:`alike`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from bench.cores import Cores, running_on
from bench.figures import resume, suspend
from bench.jobs import ROOT, Job, JobFailed, Outcome, run_job
from bench.surroundings import QUESTION, SYSTEM, VARIABLES, WEIGHTS, clean_environment
from bench.tensorzero_tables import create, migrations
from stack.folder import remembered_port
from stack.supervisor import Child

FOLDER: Final = ROOT / ".peers"

_START_SECONDS: Final = 120.0
_QUOTED_LINES: Final = 15
_CREDENTIAL: Final = "sk-bench"
_MASTER_KEY: Final = "sk-bench-master"
_SAMPLING: Final = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
_HTTP_CLIENT: Final = (sys.executable, "-m", "bench.http_client")


class Absent(Exception):
    """A peer that is not there to be measured; says why."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that can be measured."""

    name: str
    job: Job
    command: Sequence[str | Path]
    """What does the job."""
    environment: Mapping[str, str]
    cores: frozenset[int]
    """Where `command` runs."""
    pid: int = 0
    """Of a process that is to lie still while another is measured; 0: none."""

    def measure(self, *, concurrency: int, seconds: float) -> Outcome:
        """Load it. Blocks.

        :raises JobFailed: at the first call that fails
        """
        with running_on(self.cores):
            job = replace(self.job, concurrency=concurrency, seconds=seconds)
            return run_job(job, self.command, self.environment)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """It runs inside only: a peer's own housekeeping must not cost another one's time."""
        if self.pid:
            resume(self.pid)
        try:
            yield
        finally:
            if self.pid:
                suspend(self.pid)


def over_http(
    name: str, address: str, pid: int, body: str, cores: Cores, *, headers: Mapping[str, str], still: bool = False
) -> Subject:
    """A server that speaks OpenAI's chat completions.

    :param still: whether it is to lie still while another is measured
    """
    job = Job(0, 0, pid=pid, address=address, headers=headers, body=body)
    return Subject(name, job, _HTTP_CLIENT, clean_environment(), cores.others, pid if still else 0)


def rendered_body(**more: object) -> str:
    """The question as somebody without a template asks it."""
    system = SYSTEM
    for name, value in VARIABLES.items():
        system = system.replace(f"{{{{ {name} }}}}", value)
    messages = [{"role": "system", "content": system}, {"role": "user", "content": QUESTION}]
    return json.dumps({"model": "bench-model", "temperature": 0.9, "messages": messages, **more})


@contextmanager
def litellm(folder: Path, upstream: str, cores: Cores, *, otlp: str = "") -> Iterator[Subject]:
    """LiteLLM's proxy, one worker.

    :param folder: for what it needs and writes
    :param upstream: `host:port`
    :param otlp: if given, it also chooses between two deployments by weight, with retries and a fallback, checks that a
        question fits its model, and sends traces there
    :raises Absent: if it is not installed or does not start
    """
    program = _installed("litellm", "bin/litellm")
    settings = {"LITELLM_MASTER_KEY": _MASTER_KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    there = {"model": "openai/bench-model", "api_base": f"http://{upstream}/v1", "api_key": _CREDENTIAL}
    if otlp:
        settings |= {"OTEL_EXPORTER": "otlp_grpc", "OTEL_ENDPOINT": otlp, **_SAMPLING}
        models = [
            {"model_name": "bench-model", "litellm_params": there | {"weight": weight, "temperature": weight / 100}}
            for weight in WEIGHTS
        ]
        models.append({"model_name": "bench-fallback", "litellm_params": there})
        more = {
            "router_settings": {
                "num_retries": 2,
                "fallbacks": [{"bench-model": ["bench-fallback"]}],
                "enable_pre_call_checks": True,
            },
            "litellm_settings": {"callbacks": ["otel"]},
        }
    else:
        models, more = [{"model_name": "bench-model", "litellm_params": there}], {}
    config = folder / "config.yaml"
    # JSON is YAML too.
    config.write_text(json.dumps({"model_list": models, **more}))
    port = remembered_port(folder)
    command = [program, "--config", config, "--host", "127.0.0.1", "--port", port, "--num_workers", 1]
    name = "LiteLLM, alike" if otlp else "LiteLLM"
    with _server(name, [*command, "--telemetry", False], settings, folder, cores) as child:
        headers = {"authorization": f"Bearer {_MASTER_KEY}"}
        subject = over_http(name, f"127.0.0.1:{port}", child.pid, rendered_body(), cores, headers=headers, still=True)
        subject = _answering(subject, child, folder)
        # A callback that cannot be had does not keep it from serving.
        failures = [line for line in (folder / "log").read_text().splitlines() if ":ERROR:" in line]
        if failures:
            raise Absent(f"it serves without a part of it: {failures[0]}")
        yield subject


@contextmanager
def portkey(folder: Path, upstream: str, cores: Cores, *, weighted: bool = False) -> Iterator[Subject]:
    """Portkey's gateway; parameters as :func:`litellm`.

    :param weighted: whether it chooses between two targets by weight, repeats what fails, and checks its input
    """
    script = _installed("portkey", "node_modules/@portkey-ai/gateway/build/start-server.js")
    node, port = Path(sys.executable).parent / "node", remembered_port(folder)
    if not node.exists():
        raise Absent("there is no node beside Python: make install")
    headers = {"authorization": f"Bearer {_CREDENTIAL}"}
    if weighted:
        target = {"provider": "openai", "custom_host": f"http://{upstream}/v1", "retry": {"attempts": 2}}
        targets = [
            target | {"api_key": _CREDENTIAL, "weight": weight, "override_params": {"temperature": weight / 100}}
            for weight in WEIGHTS
        ]
        checked = {"default.characterCount": {"minCharacters": 1, "maxCharacters": 100_000}, "deny": True}
        config = {"strategy": {"mode": "loadbalance"}, "targets": targets, "input_guardrails": [checked]}
        headers["x-portkey-config"] = json.dumps(config)
    else:
        headers |= {"x-portkey-provider": "openai", "x-portkey-custom-host": f"http://{upstream}/v1"}
    name = "Portkey, alike" if weighted else "Portkey"
    with _server(name, [node, script, f"--port={port}", "--headless"], {}, folder, cores) as child:
        subject = over_http(name, f"127.0.0.1:{port}", child.pid, rendered_body(), cores, headers=headers, still=True)
        yield _answering(subject, child, folder)


@contextmanager
def tensorzero(
    folder: Path, upstream: str, cores: Cores, *, database: Callable[[str], str] | None = None, first: bool = False
) -> Iterator[Subject]:
    """TensorZero in its caller's process, with a template and two variants; parameters as :func:`litellm`.

    :param database: if given, it records each call in a database that this makes, of that name, and whose URL it gives
    :param first: whether an answer waits for that, so that no answered call is lost; by default it does not
    """
    python = _installed("tensorzero", "bin/python")
    name, observability, url = "TensorZero", "observability.enabled = false\n", ""
    if database is not None:
        name, url = ("TensorZero, durable", database("durable")) if first else ("TensorZero, alike", database("alike"))
        observability = (
            'observability.enabled = true\nobservability.backend = "postgres"\n'
            f"observability.async_writes = {'false' if first else 'true'}\n"
        )
        _make_tables(url)
    (folder / "system.minijinja").write_text(SYSTEM)
    properties = {name: {"type": "string"} for name in VARIABLES}
    schema = {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
    (folder / "system.json").write_text(json.dumps(schema))
    variants = "".join(
        f'[functions.bench.variants.weight_{weight}]\ntype = "chat_completion"\nweight = {weight}\nmodel = "bench"\n'
        f'temperature = {weight / 100}\nsystem_template = "system.minijinja"\n'
        for weight in WEIGHTS
    )
    config = folder / "tensorzero.toml"
    config.write_text(
        f"[gateway]\n{observability}"
        '[models.bench]\nrouting = ["instant"]\n'
        '[models.bench.providers.instant]\ntype = "openai"\nmodel_name = "bench-model"\n'
        f'api_base = "http://{upstream}/v1/"\napi_key_location = "env::BENCH_CREDENTIAL"\n'
        '[functions.bench]\ntype = "chat"\nsystem_schema = "system.json"\n' + variants
    )
    job = Job(0, 0, config=str(config), database=url, question=QUESTION, variables=VARIABLES)
    # Without -P, the folder of the script would stand before the standard library, and http.py in it.
    command: list[str | Path] = [python, "-P", ROOT / "bench" / "embedded_tensorzero.py"]
    environment = clean_environment() | {
        "BENCH_CREDENTIAL": _CREDENTIAL,
        "TENSORZERO_DISABLE_PSEUDONYMOUS_USAGE_ANALYTICS": "1",
    }
    subject = Subject(name, job, command, environment, cores.serving)
    try:
        subject.measure(concurrency=1, seconds=0.1)
    except JobFailed as failed:
        raise Absent(f"it does not answer: {failed}") from None
    yield subject


@contextmanager
def bare(folder: Path, upstream: str, cores: Cores) -> Iterator[Subject]:
    """No peer, but what each of them, and ours, costs in Python on aiohttp (`bench/bare.py`); parameters as
    :func:`litellm`."""
    port = remembered_port(folder)
    command = [sys.executable, "-m", "bench.bare", "--upstream", upstream, "--port", port, "--log", folder / "calls"]
    settings = {"PYTHONPATH": str(ROOT)}
    with _server(BARE, command, settings, folder, cores) as child:
        body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": QUESTION}], "input": VARIABLES})
        subject = over_http(BARE, f"127.0.0.1:{port}", child.pid, body, cores, headers={}, still=True)
        yield _answering(subject, child, folder)


@contextmanager
def lean(folder: Path, upstream: str, cores: Cores, *, nats: str, otlp: str) -> Iterator[Subject]:
    """No peer either, but what Python can do with everything on (`bench/lean.py`); parameters as :func:`litellm`.

    :param nats: where it publishes
    :param otlp: where its spans go
    """
    port = remembered_port(folder)
    command = [sys.executable, "-m", "bench.lean", "--upstream", upstream, "--port", port, "--log", folder / "calls"]
    with _server(LEAN, [*command, "--nats", nats, "--otlp", otlp], {"PYTHONPATH": str(ROOT)}, folder, cores) as child:
        body = json.dumps({"model": "bench", "messages": [{"role": "user", "content": QUESTION}], "input": VARIABLES})
        headers = {"authorization": f"Bearer tk_lean_{'x' * 43}_checks"}
        subject = over_http(LEAN, f"127.0.0.1:{port}", child.pid, body, cores, headers=headers, still=True)
        yield _answering(subject, child, folder)


BARE: Final = "bare prototype"
LEAN: Final = "lean prototype"
Enter = Callable[[Path, str, Cores], AbstractContextManager[Subject]]
ALL: Final[Mapping[str, Enter]] = {"LiteLLM": litellm, "Portkey": portkey, "TensorZero": tensorzero}


def alike(otlp: str, database: Callable[[str], str]) -> Mapping[str, Enter]:
    """The peers once more, each with as much of what ours does as it offers and as can be had here.

    LiteLLM keeps keys and calls in a database only with engines that are in no Python package; Portkey's gateway keeps
    neither. TensorZero is there twice: its package answers before a call is recorded, unless told otherwise.

    :param otlp: where spans go
    :param database: makes a database of this name and gives its URL
    """
    return {
        "LiteLLM, alike": partial(litellm, otlp=otlp),
        "Portkey, alike": partial(portkey, weighted=True),
        "TensorZero, alike": partial(tensorzero, database=database),
        "TensorZero, durable": partial(tensorzero, database=database, first=True),
    }


def _make_tables(url: str) -> None:
    library = next((FOLDER / "tensorzero").glob("lib/python*/site-packages/tensorzero/*.so"), None)
    steps = migrations(library) if library else ()
    if not steps:
        raise Absent("its library holds no migrations that are known here")
    asyncio.run(create(url, steps))


def _installed(name: str, program: str) -> Path:
    if not (FOLDER / name / ".installed").exists():
        raise Absent("it is not installed: make bench-peers")
    return FOLDER / name / program


def version(name: str) -> str:
    """What is installed, as its package registry calls it; empty if it is not."""
    with contextlib.suppress(OSError):
        return (FOLDER / name.partition(",")[0].lower() / ".installed").read_text().strip()
    return ""


@contextmanager
def _server(
    name: str, command: Sequence[object], settings: Mapping[str, str], folder: Path, cores: Cores
) -> Iterator[Child]:
    environment = {key: value for key, value in clean_environment().items() if key != "PYTHONPATH"}
    try:
        with running_on(cores.serving):
            child = Child.start(
                [str(word) for word in command], env={**environment, **settings}, cwd=folder, log_path=folder / "log"
            )
    except OSError as error:
        raise Absent(f"it cannot be started: {error}") from None
    try:
        yield child
    finally:
        with contextlib.suppress(Exception):
            resume(child.pid)
        child.stop()


def _answering(subject: Subject, child: Child, folder: Path) -> Subject:
    """The subject, once it answers the very request that it will be measured with; asleep from then on."""
    job, deadline = subject.job, time.monotonic() + _START_SECONDS
    headers = {"content-type": "application/json", **job.headers}
    request = urllib.request.Request(f"http://{job.address}{job.path}", job.body.encode(), headers)
    last = ""
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                answer.read()
            break
        except urllib.error.HTTPError as error:
            last = f"status {error.code}: {error.read()[:500].decode(errors='replace')}"
        except OSError as error:
            last = str(error)
        if not child.alive() or time.monotonic() > deadline:
            lines = (folder / "log").read_text(errors="replace").splitlines()[-_QUOTED_LINES:]
            raise Absent("\n  ".join([f"it does not answer ({last}); the end of its log:", *lines]))
        time.sleep(0.1)
    suspend(child.pid)
    return subject
