"""An executor on fakes of its ports, whose provider does what its script says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

from catalog.view import (
    Completion,
    Credential,
    Deployment,
    DeploymentKind,
    Project,
    Provider,
    ProviderKind,
    Revision,
    Variant,
    View,
)
from catalog.view import Version as PackedVersion
from completions.chat import Message, Role
from completions.version import Version
from kit.errors import Unavailable
from kit.secrets import Secret
from services.executor.application import Executor
from services.executor.contracts import Contracts
from services.executor.domain import (
    Delta,
    FinishReason,
    ProviderAnswer,
    ProviderFailure,
    ProviderRequest,
    Reason,
    Run,
    RunCall,
    Source,
    Started,
    Status,
    Usage,
)
from services.executor.prepared import PreparedVersions

ANSWER = ProviderAnswer(Message(Role.ASSISTANT, "Paris."), FinishReason.STOP, Usage(24, 8), "served-model", 200)
FLAKY = ProviderFailure(Reason.ERROR, "the provider answered HTTP 503", 503, is_retryable=True)
REFUSED = ProviderFailure(Reason.REJECTED_REQUEST, "the provider answered HTTP 400", 400, is_retryable=False)
BEGUN = [Started("served-model"), Delta("Par")]


@dataclass
class Clock:
    """Time that passes when somebody waits for it."""

    time: float = 100.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> float:
        return self.time

    def unix_ns(self) -> int:
        return 1_700_000_000_000_000_000

    def uniform(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


@dataclass
class Scripted:
    """A provider that answers what its script says; a number is a wait for as long, up to the time-out."""

    clock: Clock
    script: list[Any] = field(default_factory=list)
    requests: list[ProviderRequest] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)
    closed: int = 0
    """How many streams have ended, one way or the other."""

    def prepare(self, version: Version, kind: ProviderKind) -> bytes:
        return version.model.encode()

    async def complete(self, request: ProviderRequest, timeout_seconds: float) -> ProviderAnswer | ProviderFailure:
        self.requests.append(request)
        self.timeouts.append(timeout_seconds)
        step = self.script.pop(0) if self.script else ANSWER
        if isinstance(step, (int, float)):
            self.clock.time += min(step, timeout_seconds)
            return ProviderFailure(Reason.TIMEOUT, "the answer was not complete in time", 0, is_retryable=True)
        if isinstance(step, BaseException):
            raise step
        if step == "stall":
            await asyncio.Event().wait()
        return step

    async def stream(
        self, request: ProviderRequest, *, total_seconds: float, silence_seconds: float
    ) -> AsyncGenerator[Started | Delta | ProviderAnswer | ProviderFailure, None]:
        """A step may be a list: what comes, in order."""
        step = self.script.pop(0) if self.script else [Started("served-model"), Delta("Par"), Delta("is."), ANSWER]
        self.requests.append(request)
        self.timeouts.append(silence_seconds)
        try:
            for piece in step if isinstance(step, list) else [step]:
                if piece == "stall":
                    await asyncio.Event().wait()
                yield piece
        finally:
            self.closed += 1


@dataclass
class Records:
    """Keeps what is recorded: the status of each call at its start, and the whole of it at its end."""

    full: bool = False
    opened: list[Status] = field(default_factory=list)
    closed: list[Run] = field(default_factory=list)

    def open(self, run: Run) -> object:
        if self.full:
            raise Unavailable("the event spool is full", reason="SPOOL_FULL")
        self.opened.append(run.status)
        return run.request_id

    def close(self, opened: object, run: Run) -> None:
        assert opened == run.request_id
        self.closed.append(run)


class Views:
    def __init__(self, view: View) -> None:
        self.view = view

    def usable_view(self) -> View:
        return self.view


class Unpack:
    def unpack(self, packed: bytes) -> Version:
        return Version("prv_main", "test-model", (Message(Role.USER, packed.decode()),) if packed else ())


class Opens:
    def open(self, credential: Credential) -> Secret:
        return Secret(credential.envelope.decode())


class Prices:
    async def cost_usd_micros(self, provider: Provider, model: str, usage: Usage) -> int | None:
        return 42 if model == "test-model" else None


class House:
    """An executor on fakes of its ports."""

    def __init__(
        self,
        *script: Any,
        max_retries: int = 0,
        attempt_timeout: float | None = None,
        weight: float = 100,
        kind: ProviderKind = ProviderKind.OPENAI_COMPATIBLE,
        template: str = "{{ country }}?",
        credential: str = "",
    ) -> None:
        variant = Variant("var_1", 1, "v1", "V1", True, weight, Completion("ver_1", max_retries, attempt_timeout))
        revision = Revision("rev_1", "1.0", "salt", (variant,))
        deployment = Deployment("dep_1", "prj_shop", "assistant", DeploymentKind.COMPLETION, {"live": revision})
        view = View().with_changes(
            1,
            [
                ("project/prj_shop", Project("prj_shop", 1, "shop")),
                ("deployment/dep_1", deployment),
                ("version/prj_shop/ver_1", PackedVersion("prj_shop", "ver_1", template.encode())),
                ("provider/prv_main", Provider("prv_main", "prj_shop", "main", kind, "https://x/v1")),
                ("credential/prv_main", Credential("prv_main", credential.encode()) if credential else None),
            ],
        )
        self.clock, self.records = Clock(), Records()
        self.provider = Scripted(self.clock, list(script))
        providers = dict.fromkeys(ProviderKind, self.provider)
        self.executor = Executor(
            catalog=Views(view),
            contracts=Contracts(),
            prepared=PreparedVersions(Unpack(), providers, 10),
            providers=providers,
            credentials=Opens(),
            recorder=self.records,
            prices=Prices(),
            clock=self.clock,
        )

    def call(self, deployment: str = "assistant", deadline: float = 600, **fields: Any) -> RunCall:
        given: dict[str, Any] = {
            "variables_json": '{"country":"France"}', "messages": (), "routing_key": "", "identity": "", "thread": "",
            "metadata_json": "", "caller_trace_id": "", "source": Source.API, "tenant": "prj_shop", "key_id": "k",
            "trace_id": "0" * 32, "deadline": self.clock.time + deadline,
        }  # fmt: skip
        return RunCall(deployment=deployment, **(given | fields))

    async def run(self, deployment: str = "assistant", deadline: float = 600, **fields: Any) -> Run:
        return await self.executor.run(self.call(deployment, deadline, **fields))

    async def stream(self, **fields: Any) -> list[Started | Delta | None]:
        """All events of a streamed call."""
        return [piece async for _, piece in self.executor.run_stream(self.call(is_streamed=True, **fields))]

    @property
    def recorded(self) -> Run:
        """What was recorded of the one call."""
        [run] = self.records.closed
        assert len(self.records.opened) == 1
        return run
