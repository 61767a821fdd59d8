"""Running a completion: from a call to an answer, and a record of it whatever happens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from catalog import plan, targets, view
from catalog.view import DeploymentKind, ProviderKind
from completions import version as versions
from completions.chat import Message
from kit import ids
from kit.errors import AppError, Deadline, Invalid, Precondition
from kit.secrets import Secret
from services.executor import domain, inputs
from services.executor.domain import (
    Attempt,
    ProviderAnswer,
    ProviderFailure,
    ProviderRequest,
    Reason,
    Run,
    RunCall,
    Status,
)
from services.executor.ports import Clock, Credentials, Prices, Provider, Recorder, Views
from services.executor.prepared import PreparedVersions

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Executor:
    """Runs completions."""

    catalog: Views
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
        started = self.clock.now()
        seen = self.catalog.usable_view()
        target = targets.resolve(seen, call.deployment, tenant=call.tenant)
        run = Run(ids.new_uid("req"), call, target, self.clock.unix_ns(), started)
        record = _Record(self.recorder, run)
        try:
            await self._serve(seen, run, record)
        except AppError as error:
            error.metadata.setdefault("request_id", run.request_id)
            cancelled = isinstance(error, Deadline)
            self._end(record, Status.CANCELLED if cancelled else Status.ERROR, error.reason)
            raise
        except asyncio.CancelledError:
            late = call.deadline - self.clock.now() <= domain.DEADLINE_TOLERANCE_SECONDS
            self._end_quietly(record, Status.CANCELLED, "DEADLINE_EXCEEDED" if late else "CALLER_LEFT")
            raise
        except BaseException:
            self._end_quietly(record, Status.ERROR, "INTERNAL")
            raise
        self._end(record, Status.OK, "")
        return run

    async def _serve(self, seen: view.View, run: Run, record: _Record) -> None:
        call, target = run.call, run.target
        if target.deployment.kind is not DeploymentKind.COMPLETION:
            raise Precondition(
                f"the deployment {target.deployment.slug!r} answers no completions", reason="DEPLOYMENT_KIND_MISMATCH"
            )
        variables = inputs.check(call)
        key_kind, key = plan.choose_key(
            request_id=run.request_id, routing_key=call.routing_key, identity=call.identity, thread=call.thread
        )
        run.decision = plan.decide(target, key_kind, key)
        completion = run.decision.variant.completion
        run.version = completion.version
        prepared, provider = self.prepared.get(seen, target.project.uid, completion.version)
        run.provider, run.model = provider.slug, prepared.model
        rendered = prepared.compiled.render(variables)
        messages = _sent(versions.join(prepared.templates, rendered, call.messages))
        credential = self._credential(seen, provider)
        record.open()
        request = ProviderRequest(provider, credential, prepared.model, prepared.body, messages)
        run.answer = await self._attempts(run, request, completion)
        run.cost_usd_micros = await self.prices.cost_usd_micros(provider, prepared.model, run.answer.usage)

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
