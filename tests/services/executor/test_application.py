from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import pytest

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
from kit.errors import Deadline, Exhausted, Invalid, NotFound, Precondition, Unavailable
from kit.secrets import Secret
from services.executor.application import Executor
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


async def test_a_call_is_rendered_run_priced_and_recorded() -> None:
    house = House(credential="sk-1")
    run = await house.run(messages=(Message(Role.USER, "And {{ this }}?"),), thread="t1")

    assert run.answer is ANSWER
    assert run.cost_usd_micros == 42
    assert house.records.opened == [Status.LOST]
    assert house.recorded is run
    assert (run.status, run.reason, run.provider, run.model, run.version) == (
        Status.OK, "", "main", "test-model", "ver_1",
    )  # fmt: skip
    assert run.decision is not None
    assert (run.decision.variant.uid, run.decision.key_kind) == ("var_1", "thread")
    [request] = house.provider.requests
    assert [message.content for message in request.messages] == ["France?", "And {{ this }}?"]
    assert request.credential == Secret("sk-1")
    assert request.prepared_body == b"test-model"


async def test_the_start_is_recorded_before_the_provider_is_called() -> None:
    house = House()
    house.records.full = True
    with pytest.raises(Unavailable) as failure:
        await house.run()
    assert failure.value.reason == "SPOOL_FULL"
    assert house.provider.requests == []


async def test_retries_wait_and_end_with_an_answer() -> None:
    house = House(FLAKY, FLAKY, max_retries=2)
    run = await house.run()
    assert house.clock.slept == [0.125, 0.25]
    assert [attempt.reason for attempt in run.attempts] == ["PROVIDER_ERROR", "PROVIDER_ERROR", ""]
    assert [attempt.start_offset_us for attempt in run.attempts] == [0, 125_000, 375_000]
    assert (house.recorded.status, house.recorded.latency_us) == (Status.OK, 375_000)


async def test_a_failure_after_all_retries_names_every_attempt_and_the_request() -> None:
    house = House(FLAKY, FLAKY, FLAKY, max_retries=2)
    with pytest.raises(Unavailable) as failure:
        await house.run()
    assert failure.value.reason == "PROVIDER_FAILED"
    assert [attempt.reason for attempt in failure.value.attempts] == ["PROVIDER_ERROR"] * 3
    assert failure.value.metadata["request_id"] == house.recorded.request_id
    assert (house.recorded.status, house.recorded.reason) == (Status.ERROR, "PROVIDER_FAILED")
    assert len(house.recorded.attempts) == 3


async def test_a_client_error_is_never_repeated() -> None:
    house = House(REFUSED, max_retries=10)
    with pytest.raises(Invalid) as failure:
        await house.run()
    assert failure.value.reason == "PROVIDER_REJECTED_REQUEST"
    assert len(house.provider.requests) == 1


async def test_a_malformed_answer_is_repeated() -> None:
    house = House(
        ProviderFailure(Reason.MALFORMED_RESPONSE, "the answer is no JSON", 200, is_retryable=True), max_retries=1
    )
    assert (await house.run()).answer is ANSWER


async def test_a_provider_that_names_a_time_is_not_asked_before_it() -> None:
    limited = ProviderFailure(Reason.RATE_LIMITED, "slow down", 429, is_retryable=True, retry_after_seconds=20)
    house = House(limited, max_retries=1)
    await house.run()
    assert house.clock.slept == [20]


async def test_a_time_that_does_not_fit_the_deadline_is_told_instead_of_waited_for() -> None:
    limited = ProviderFailure(Reason.RATE_LIMITED, "slow down", 429, is_retryable=True, retry_after_seconds=20)
    house = House(limited, max_retries=1)
    with pytest.raises(Exhausted) as failure:
        await house.run(deadline=20.9)
    assert (failure.value.reason, failure.value.retry_after_seconds) == ("PROVIDER_RATE_LIMITED", 20)
    assert house.clock.slept == []


async def test_an_attempt_has_the_variants_time_and_never_more_than_the_deadline() -> None:
    house = House(30, 30, 30, max_retries=5, attempt_timeout=4)
    with pytest.raises(Unavailable) as failure:
        await house.run(deadline=9)
    assert failure.value.reason == "PROVIDER_FAILED"
    # 4 s, a pause of 0.125 s, 4 s: what is left is too little for a third.
    assert house.provider.timeouts == [4, 4]


async def test_a_deadline_that_passes_in_an_attempt_ends_the_call() -> None:
    house = House(30, max_retries=5)
    with pytest.raises(Deadline) as failure:
        await house.run(deadline=5)
    assert (failure.value.reason, len(failure.value.attempts)) == ("DEADLINE_EXCEEDED", 1)
    assert (house.recorded.status, house.recorded.reason) == (Status.CANCELLED, "DEADLINE_EXCEEDED")


async def test_a_call_that_comes_too_late_reaches_no_provider() -> None:
    house = House()
    with pytest.raises(Deadline):
        await house.run(deadline=0)
    assert house.provider.requests == []


async def test_a_caller_who_leaves_is_recorded_as_such() -> None:
    house = House("stall")
    call = asyncio.create_task(house.run())
    while not house.provider.requests:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (house.recorded.status, house.recorded.reason) == (Status.CANCELLED, "CALLER_LEFT")
    assert [attempt.reason for attempt in house.recorded.attempts] == ["CANCELLED"]


@pytest.mark.parametrize(
    ("after_seconds", "reason"),
    # A caller's clock is ahead of ours by what the call took to come here.
    [(4.7, "CALLER_LEFT"), (4.76, "DEADLINE_EXCEEDED"), (5, "DEADLINE_EXCEEDED"), (5.1, "DEADLINE_EXCEEDED")],
)
@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_caller_who_leaves_at_the_deadline_has_run_out_of_time(
    after_seconds: float, reason: str, is_streamed: bool
) -> None:
    house = House([*BEGUN, "stall"] if is_streamed else "stall")
    call = asyncio.create_task(house.stream(deadline=5) if is_streamed else house.run(deadline=5))
    while not house.provider.requests:
        await asyncio.sleep(0)
    house.clock.time += after_seconds
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (house.recorded.status, house.recorded.reason) == (Status.CANCELLED, reason)


async def test_a_bug_is_recorded_before_it_surfaces() -> None:
    house = House(RuntimeError("a bug"))
    with pytest.raises(RuntimeError):
        await house.run()
    assert (house.recorded.status, house.recorded.reason) == (Status.ERROR, "INTERNAL")


@pytest.mark.parametrize(
    ("house", "fields", "error", "reason", "decided"),
    [
        (House(), {"variables_json": "{"}, Invalid, "JSON_MALFORMED", False),
        (House(weight=0), {}, Precondition, "NO_ACTIVE_VARIANT", False),
        (House(), {"variables_json": "{}"}, Invalid, "MISSING_VARIABLES", True),
        (House(template=""), {}, Invalid, "NO_MESSAGES", True),
        (House(kind=ProviderKind.OPENAI), {}, Precondition, "PROVIDER_CREDENTIAL_MISSING", True),
    ],
)
async def test_a_call_that_fails_before_any_provider_is_recorded_too(
    house: House, fields: dict[str, Any], error: type[Exception], reason: str, decided: bool
) -> None:
    with pytest.raises(error):
        await house.run(**fields)
    assert (house.recorded.status, house.recorded.reason) == (Status.ERROR, reason)
    assert (house.recorded.decision is not None) is decided
    assert house.provider.requests == []


async def test_a_call_to_nothing_belongs_to_nobody_and_is_not_recorded() -> None:
    house = House()
    with pytest.raises(NotFound):
        await house.run("nothing")
    assert house.records.closed == []


BROKEN = ProviderFailure(Reason.MALFORMED_RESPONSE, "the provider's answer ends in the middle", 200, is_retryable=True)
BEGUN = [Started("served-model"), Delta("Par")]


async def test_a_streamed_call_is_answered_in_pieces_and_recorded_before_its_end_is_told() -> None:
    house = House()
    ends = []
    events = []
    async for run, piece in house.executor.run_stream(house.call(is_streamed=True)):
        events.append(piece)
        ends.append(run.status)

    assert events == [Started("served-model"), Delta("Par"), Delta("is."), None]
    assert ends == [Status.LOST, Status.LOST, Status.LOST, Status.OK]
    assert house.recorded.answer is ANSWER
    assert house.recorded.cost_usd_micros == 42
    assert house.recorded.time_to_first_token_us is not None
    assert house.provider.closed == 1


async def test_a_stream_that_fails_before_its_first_piece_is_repeated() -> None:
    house = House(FLAKY, max_retries=1)

    assert await house.stream() == [Started("served-model"), Delta("Par"), Delta("is."), None]
    assert [attempt.reason for attempt in house.recorded.attempts] == ["PROVIDER_ERROR", ""]


async def test_a_stream_that_breaks_after_its_first_piece_is_not_repeated() -> None:
    house = House([*BEGUN, BROKEN], max_retries=3)
    events = house.executor.run_stream(house.call(is_streamed=True))

    assert [(await anext(events))[1], (await anext(events))[1]] == BEGUN
    with pytest.raises(Unavailable) as failure:
        await anext(events)
    assert failure.value.reason == "STREAM_BROKEN"
    assert failure.value.metadata["request_id"] == house.recorded.request_id
    assert (house.recorded.status, house.recorded.reason) == (Status.ERROR, "STREAM_BROKEN")
    assert len(house.provider.requests) == 1


async def test_a_stream_that_fails_for_good_fails_as_a_call_does() -> None:
    house = House(REFUSED)
    with pytest.raises(Invalid) as failure:
        await house.stream()

    assert failure.value.reason == "PROVIDER_REJECTED_REQUEST"
    assert house.recorded.status is Status.ERROR


async def test_a_caller_who_leaves_between_pieces_ends_the_providers_work() -> None:
    house = House()
    events = house.executor.run_stream(house.call(is_streamed=True))
    await anext(events)
    await events.aclose()

    assert house.provider.closed == 1
    assert (house.recorded.status, house.recorded.reason) == (Status.CANCELLED, "CALLER_LEFT")
    assert [attempt.reason for attempt in house.recorded.attempts] == ["CANCELLED"]


async def test_a_caller_who_leaves_while_the_provider_is_silent_ends_its_work() -> None:
    house = House([*BEGUN, "stall"])
    task = asyncio.create_task(house.stream())
    while not house.provider.requests:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert house.provider.closed == 1
    assert house.recorded.reason == "CALLER_LEFT"


async def test_a_stream_is_refused_when_its_start_cannot_be_recorded() -> None:
    house = House()
    house.records.full = True
    with pytest.raises(Unavailable) as failure:
        await house.stream()

    assert failure.value.reason == "SPOOL_FULL"
    assert house.provider.requests == []


async def test_the_silence_of_a_stream_is_bounded_by_the_attempts_time_out() -> None:
    house = House(attempt_timeout=5)
    await house.stream()

    assert house.provider.timeouts == [5]
