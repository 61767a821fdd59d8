"""An executor on fakes of its ports, whose provider does what its script says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from catalog.plan import Planner
from catalog.view import (
    ApiKey,
    Completion,
    Contract,
    Credential,
    Deployment,
    DeploymentKind,
    Project,
    Provider,
    ProviderKind,
    Revision,
    StructuredOutput,
    Variant,
    View,
)
from catalog.view import Version as PackedVersion
from completions.chat import Message, Role
from completions.version import Parameters, Version
from kit.errors import Invalid, Unavailable
from kit.json import Json
from kit.secrets import Secret
from services.executor.application import Executor
from services.executor.application.attempts import Attempts
from services.executor.application.preparation import Preparation
from services.executor.breaker import BreakerPolicy, Breakers
from services.executor.contracts import Contracts
from services.executor.domain import (
    Delta,
    FinishReason,
    Outgoing,
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
from services.executor.limits import ProviderLimits
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
    idles: list[float] = field(default_factory=list)
    """How long streams may be silent."""
    prepared: list[float | None] = field(default_factory=list)
    """The temperatures of what was prepared."""
    closed: int = 0
    """How many streams have ended, one way or the other."""
    speechless: str = ""
    """The model whose contract has no word for any version."""

    def prepare(
        self, version: Version, kind: ProviderKind, takes: StructuredOutput = StructuredOutput.JSON_SCHEMA
    ) -> bytes:
        if version.model == self.speechless:
            raise Invalid("the tool choice must be left out", reason="TOOL_CHOICE_UNKNOWN")
        self.prepared.append(version.parameters.temperature)
        return repr((version.model, version.parameters.temperature, version.tools)).encode()

    def answer_tokens(self, version: Version) -> int:
        return version.parameters.max_output_tokens or 0

    def request_of(self, request: ProviderRequest, *, streamed: bool) -> Outgoing:
        said = [f"{message.role}: {message.content}" for message in request.messages]
        return Outgoing("POST", request.provider.base_url, b"\n".join([request.prepared_body, *map(str.encode, said)]))

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
        self, request: ProviderRequest, *, total_seconds: float, first_seconds: float, idle_seconds: float
    ) -> AsyncGenerator[Started | Delta | ProviderAnswer | ProviderFailure, None]:
        """A step may be a list: what comes, in order."""
        step = self.script.pop(0) if self.script else [Started("served-model"), Delta("Par"), Delta("is."), ANSWER]
        self.requests.append(request)
        self.timeouts.append(first_seconds)
        self.idles.append(idle_seconds)
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
    """A packed version is the text of its one message."""

    def unpack(self, packed: bytes) -> Version:
        messages = (Message(Role.USER, packed.decode()),) if packed else ()
        return Version("prv_main", self.model, messages, self.parameters, response_format=self.response_format)

    def unpack_parameters(self, packed: bytes) -> Parameters:
        return Parameters(temperature=float(packed), max_output_tokens=self.answer_tokens)

    def __init__(self, model: str = "test-model", response_format: dict[str, Json] | None = None) -> None:
        self.model, self.response_format = model, response_format
        self.parameters = Parameters()
        """Of every version."""
        self.answer_tokens: int | None = None


class Opens:
    def open(self, credential: Credential) -> Secret:
        return Secret(credential.envelope.decode())


class Prices:
    async def cost_usd_micros(self, provider: Provider, model: str, usage: Usage) -> int | None:
        return 42 if model == "test-model" else None


class Windows:
    """A token is a character; a model's name ends with its window."""

    def __init__(self) -> None:
        self.estimated: list[str] = []
        """The models for which a prompt was estimated, in order."""

    def context_window_tokens(self, provider: Provider, model: str) -> int | None:
        digits = model.rpartition("-")[2]
        return int(digits) if digits.isdigit() else None

    def fits(
        self,
        provider: Provider,
        model: str,
        messages: Sequence[Message],
        *,
        tools_text: str = "",
        answer_tokens: int = 0,
    ) -> bool:
        self.estimated.append(model)
        window = self.context_window_tokens(provider, model)
        return window is None or sum(len(each.content) for each in messages) + len(tools_text) + answer_tokens <= window


class Capital:
    """Wants an answer to begin with a capital letter."""

    def violations(self, content: str) -> tuple[str, ...]:
        return () if content[:1].isupper() else ("answer must begin with a capital letter",)

    size = 1


class Outputs:
    def of(self, response_format: dict[str, Json]) -> Capital | None:
        return Capital() if response_format.get("type") == "json_schema" else None


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
        model: str = "test-model",
        credential: str = "",
        response_format: dict[str, Json] | None = None,
        contract: Contract | None = None,
        breakers: BreakerPolicy | None = None,
        max_concurrent_calls: int = 1000,
        **completion: Any,
    ) -> None:
        serving = Completion("ver_1", max_retries, attempt_timeout, **completion)
        variant = Variant("var_1", 1, "v1", "V1", True, weight, serving)
        revision = Revision("rev_1", "1.0", "salt", (variant,))
        contracts = {} if contract is None else {"live": contract}
        deployment = Deployment(
            "dep_1", "prj_shop", "assistant", DeploymentKind.COMPLETION, {"live": revision}, contracts
        )
        view = View().with_changes(
            1,
            [
                ("project/prj_shop", Project("prj_shop", 1, "shop")),
                ("deployment/dep_1", deployment),
                ("version/prj_shop/ver_1", PackedVersion("prj_shop", "ver_1", template.encode())),
                ("provider/prv_main", Provider("prv_main", "prj_shop", "main", kind, "https://x/v1")),
                ("provider/prv_other", Provider("prv_other", "prj_shop", "other", kind, "https://y/v1")),
                ("credential/prv_main", Credential("prv_main", credential.encode()) if credential else None),
                ("api_key/k", ApiKey("k", "prj_shop", b"", frozenset(), 0)),
            ],
        )
        self.clock, self.records, self.windows = Clock(), Records(), Windows()
        self.provider = Scripted(self.clock, list(script))
        providers = dict.fromkeys(ProviderKind, self.provider)
        self.unpack = Unpack(model, response_format)
        prepared = PreparedVersions(self.unpack, providers, Outputs(), max_versions=10, max_bytes=1 << 20)
        policy = breakers or BreakerPolicy(min_failures=0)
        self.executor = Executor(
            catalog=Views(view),
            preparation=Preparation(Planner(), Contracts(), prepared, Opens()),
            attempts=Attempts(
                providers=providers,
                breakers=Breakers(policy, self.clock.uniform),
                limits=ProviderLimits(self.clock.now, max_waiting=1, max_wait_seconds=0.05),
                windows=self.windows,
                prices=Prices(),
                clock=self.clock,
                max_concurrent_calls=max_concurrent_calls,
            ),
            recorder=self.records,
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
