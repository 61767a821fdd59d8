"""Running a completion: from a call to an answer, and a record of it whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from catalog import plan, targets, view
from catalog.view import DeploymentKind, ProviderKind
from completions import version as versions
from completions.chat import Message
from kit import ids
from kit.errors import AppError, Deadline, Invalid, Precondition
from kit.secrets import Secret
from services.executor import domain, inputs
from services.executor.contracts import Contracts
from services.executor.domain import (
    Attempt,
    Delta,
    ProviderAnswer,
    ProviderFailure,
    ProviderRequest,
    Reason,
    Run,
    RunCall,
    Started,
    Status,
)
from services.executor.ports import Clock, Credentials, Prices, Provider, Recorder, Views
from services.executor.prepared import PreparedVersions

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Executor:
    """Runs completions."""

    catalog: Views
    contracts: Contracts
    prepared: PreparedVersions
    providers: Mapping[ProviderKind, Provider]
    credentials: Credentials
    recorder: Recorder
    prices: Prices
    clock: Clock

    async def run(self, call: RunCall) -> Run:
        """Decide which variant serves, run it, and record what happened before anybody hears of it.

        Every call whose deployment is found is recorded exactly once; a failure says under which `request_id`.

        :raises NotFound: `DEPLOYMENT_NOT_FOUND`, `ALIAS_NOT_FOUND`, `PROJECT_NOT_FOUND`
        :raises Invalid: what `inputs` and the templates refuse; `NO_MESSAGES`; `PROVIDER_REJECTED_REQUEST`
        :raises Precondition: `DEPLOYMENT_KIND_MISMATCH`, `NO_ACTIVE_VARIANT`, `PROVIDER_CREDENTIAL_MISSING` and what
            else the operator must mend
        :raises Exhausted: `PROVIDER_RATE_LIMITED`
        :raises Unavailable: `PROVIDER_FAILED`; `SPOOL_FULL` before any provider is called
        :raises Deadline: `DEADLINE_EXCEEDED`
        """
        run = self._begin(call)
        with self._recorded(run) as record:
            request, completion = self._prepare(run, record)
            run.answer = await self._attempts(run, request, completion)
            run.cost_usd_micros = await self.prices.cost_usd_micros(request.provider, request.model, run.answer.usage)
        return run

    async def run_stream(self, call: RunCall) -> AsyncGenerator[tuple[Run, Started | Delta | None], None]:
        """As :meth:`run`, in pieces: `Started`, pieces of the answer, and None when it is whole and recorded.

        Nothing is sent before the model has said something, so until then an attempt may be repeated and failures are
        those of :meth:`run`; afterwards `STREAM_BROKEN`. A caller who closes this ends the provider's work.
        """
        run = self._begin(call)
        with self._recorded(run) as record:
            request, completion = self._prepare(run, record)
            async with aclosing(self._streamed(run, request, completion)) as pieces:
                async for piece in pieces:
                    yield run, piece
            if run.answer is not None:
                usage = run.answer.usage
                run.cost_usd_micros = await self.prices.cost_usd_micros(request.provider, request.model, usage)
        yield run, None

    def _begin(self, call: RunCall) -> Run:
        started, seen = self.clock.now(), self.catalog.usable_view()
        target = targets.resolve(seen, call.deployment, tenant=call.tenant)
        return Run(ids.new_uid("req"), call, seen, target, self.clock.unix_ns(), started)

    @contextmanager
    def _recorded(self, run: Run) -> Iterator[_Record]:
        """Records how the block ends, whatever it does."""
        record = _Record(self.recorder, run)
        try:
            yield record
        except AppError as error:
            error.metadata.setdefault("request_id", run.request_id)
            cancelled = isinstance(error, Deadline)
            self._end(record, Status.CANCELLED if cancelled else Status.ERROR, error.reason)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            late = run.call.deadline - self.clock.now() <= domain.DEADLINE_LEAD_SECONDS
            self._end_quietly(record, Status.CANCELLED, "DEADLINE_EXCEEDED" if late else "CALLER_LEFT")
            raise
        except BaseException:
            self._end_quietly(record, Status.ERROR, "INTERNAL")
            raise
        self._end(record, Status.OK, "")

    def _prepare(self, run: Run, record: _Record) -> tuple[ProviderRequest, view.Completion]:
        """Decide, render, and record the start: all that comes before a provider is asked."""
        call, target, seen = run.call, run.target, run.seen
        if target.deployment.kind is not DeploymentKind.COMPLETION:
            raise domain.kind_mismatch(target)
        variables = inputs.check(call)
        self.contracts.check(target, variables)
        key_kind, key = plan.choose_key(
            request_id=run.request_id,
            routing_key=call.routing_key,
            identity=call.identity,
            thread=call.thread,
            user=call.user,
        )
        run.decision = plan.decide(target, key_kind, key)
        completion = domain.completion_of(run.decision)
        run.version = completion.version
        prepared, provider = self.prepared.get(seen, target.project.uid, completion.version)
        run.provider, run.model = provider.slug, prepared.model
        rendered = prepared.compiled.render(variables)
        messages = _sent(versions.join(prepared.templates, rendered, call.messages))
        credential = self._credential(seen, provider)
        record.open()
        return ProviderRequest(provider, credential, prepared.model, prepared.body, messages), completion

    def _credential(self, seen: view.View, provider: view.Provider) -> Secret | None:
        credential = seen.credential(provider.uid)
        if credential is not None:
            return self.credentials.open(credential)
        if provider.kind is ProviderKind.OPENAI:
            raise Precondition(
                f"the provider {provider.slug!r} has no credential; set one",
                reason="PROVIDER_CREDENTIAL_MISSING",
                provider=provider.slug,
            )
        return None

    async def _attempts(self, run: Run, request: ProviderRequest, completion: view.Completion) -> ProviderAnswer:
        """Try until there is an answer or none can be expected. A completion changes nothing, so it may be repeated."""
        clock, deadline = self.clock, run.call.deadline
        adapter = self.providers[request.provider.kind]
        retries_left, retry = completion.max_retries, 0
        while True:
            begun = clock.now()
            if deadline - begun <= 0:
                raise domain.deadline_passed(run.attempts)
            timeout = domain.attempt_timeout_seconds(completion.attempt_timeout_seconds, deadline - begun)
            try:
                outcome = await adapter.complete(request, timeout)
            except asyncio.CancelledError:
                run.attempts.append(self._attempt(run, begun, Reason.CANCELLED, "the call ended first", 0))
                raise
            if isinstance(outcome, ProviderAnswer):
                run.attempts.append(self._attempt(run, begun, "", "", outcome.http_status))
                return outcome
            run.attempts.append(self._attempt(run, begun, outcome.reason, outcome.message, outcome.http_status))
            await self._pause_or_fail(run, outcome, retries_left, retry)
            retries_left, retry = retries_left - 1, retry + 1

    async def _streamed(
        self, run: Run, request: ProviderRequest, completion: view.Completion
    ) -> AsyncGenerator[Started | Delta, None]:
        """As :meth:`_attempts`, until something was said; then on to the end of that attempt."""
        clock, deadline = self.clock, run.call.deadline
        adapter = self.providers[request.provider.kind]
        retries_left, retry = completion.max_retries, 0
        while True:
            begun = clock.now()
            remaining = deadline - begun
            if remaining <= 0:
                raise domain.deadline_passed(run.attempts)
            silence = domain.attempt_timeout_seconds(completion.attempt_timeout_seconds, remaining)
            outcome: ProviderAnswer | ProviderFailure | None = None
            try:
                attempt = adapter.stream(request, total_seconds=remaining, silence_seconds=silence)
                async with aclosing(attempt) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, (ProviderAnswer, ProviderFailure)):
                            outcome = piece
                            break
                        if run.time_to_first_token_us is None:
                            run.time_to_first_token_us = domain.microseconds(clock.now() - run.started)
                        yield piece
            except (asyncio.CancelledError, GeneratorExit):
                run.attempts.append(self._attempt(run, begun, Reason.CANCELLED, "the call ended first", 0))
                raise
            assert outcome is not None  # noqa: S101  # the port's promise
            if isinstance(outcome, ProviderAnswer):
                run.attempts.append(self._attempt(run, begun, "", "", outcome.http_status))
                run.answer = outcome
                return
            run.attempts.append(self._attempt(run, begun, outcome.reason, outcome.message, outcome.http_status))
            if run.time_to_first_token_us is not None:
                if deadline - clock.now() <= domain.DEADLINE_TOLERANCE_SECONDS:
                    raise domain.deadline_passed(run.attempts)
                raise domain.broken_stream(outcome, run.attempts)
            await self._pause_or_fail(run, outcome, retries_left, retry)
            retries_left, retry = retries_left - 1, retry + 1

    async def _pause_or_fail(self, run: Run, failure: ProviderFailure, retries_left: int, retry: int) -> None:
        pause = domain.backoff_seconds(retry, self.clock.uniform(), failure.retry_after_seconds)
        remaining = run.call.deadline - self.clock.now()
        if domain.may_retry(failure, retries_left=retries_left, pause_seconds=pause, remaining_seconds=remaining):
            await self.clock.sleep(pause)
        elif remaining <= domain.DEADLINE_TOLERANCE_SECONDS:
            raise domain.deadline_passed(run.attempts)
        else:
            raise domain.failure_of(failure, run.attempts)

    def _attempt(self, run: Run, begun: float, reason: str, message: str, http_status: int) -> Attempt:
        return Attempt(
            provider=run.provider,
            model=run.model,
            http_status=http_status,
            reason=reason,
            message=message,
            start_offset_us=domain.microseconds(begun - run.started),
            latency_us=domain.microseconds(self.clock.now() - begun),
        )

    def _end(self, record: _Record, status: Status, reason: str) -> None:
        record.run.status, record.run.reason = status, reason
        record.run.latency_us = domain.microseconds(self.clock.now() - record.run.started)
        record.end()

    def _end_quietly(self, record: _Record, status: Status, reason: str) -> None:
        """As `_end`, when something is on its way out that nothing may replace."""
        try:
            self._end(record, status, reason)
        except AppError as error:
            log.warning(
                "the end of a call cannot be recorded",
                extra={"request_id": record.run.request_id, "reason": error.reason},
            )


class _Record:
    """What is recorded of one call: its start before a provider is called, and its end, whatever happened before."""

    __slots__ = ("_opened", "_recorder", "run")

    def __init__(self, recorder: Recorder, run: Run) -> None:
        self.run = run
        self._recorder = recorder
        self._opened: object = None

    def open(self) -> None:
        self._opened = self._recorder.open(self.run)

    def end(self) -> None:
        if self._opened is None:
            self.open()
        self._recorder.close(self._opened, self.run)


def _sent(messages: Sequence[Message]) -> Sequence[Message]:
    if not messages:
        raise Invalid(
            "there is nothing to say: the version has no messages, and the call gives none", reason="NO_MESSAGES"
        )
    return messages
