"""Running a completion: from a call to an answer, and a record of it whatever happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field

from catalog import targets
from completions.chat import Message, Role
from kit import ids
from kit.abreast import Abreast
from kit.errors import AppError
from services.executor.application.attempts import Attempts
from services.executor.application.preparation import Preparation
from services.executor.application.recording import Record
from services.executor.domain import (
    Delta,
    FinishReason,
    Outgoing,
    ProviderAnswer,
    Run,
    RunCall,
    Started,
    Status,
    Usage,
)
from services.executor.job import Job, Place
from services.executor.ports import Clock, Recorder, Views


@dataclass(frozen=True, slots=True)
class Executor:
    """Runs completions."""

    catalog: Views
    preparation: Preparation
    attempts: Attempts
    recorder: Recorder
    clock: Clock
    abreast: Abreast = field(default_factory=Abreast)
    """Takes the steps of calls for whole answers together: those in pieces begin too seldom at the same moment."""

    async def run(self, call: RunCall) -> Run:
        """Decide which variant serves, run it, and record what happened before anybody hears of it.

        Every call whose deployment is found is recorded exactly once; a failure says under which `request_id`. One with
        a mock response asks nobody and is not recorded.

        :raises NotFound: `DEPLOYMENT_NOT_FOUND`, `ALIAS_NOT_FOUND`, `PROJECT_NOT_FOUND`
        :raises Invalid: as `Preparation.job`; `PROVIDER_REJECTED_REQUEST`, `PROVIDER_CONTEXT_LENGTH_EXCEEDED`
        :raises Precondition: as `Preparation.job`; `OUTPUT_INVALID`
        :raises Exhausted: `PROVIDER_RATE_LIMITED`, `PROVIDER_BUSY`
        :raises Unavailable: `PROVIDER_FAILED`; `SPOOL_FULL` before any provider is called
        :raises Deadline: `DEADLINE_EXCEEDED`
        """
        run = self._begin(call)
        if call.mock_response:
            self._mock(run, await self.preparation.job(run))
            return run
        abreast = self.abreast
        with abreast:
            with Record(self.recorder, self.clock, run) as record:
                await abreast.step()
                job = await self.preparation.job(run)
                await abreast.step()
                record.open()
                await abreast.step()
                run.answer = await self.attempts.whole(run, job)
                record.is_answered = True
                await abreast.step()
            # The servicer takes another before it answers: meanwhile more calls come to stand in line.
            await abreast.step()
        return run

    async def run_stream(self, call: RunCall) -> AsyncGenerator[tuple[Run, Started | Delta | None], None]:
        """As :meth:`run`, in pieces: `Started`, pieces of the answer, and None when it is whole and recorded.

        Nothing is sent before the model has said something, so until then an attempt may be repeated and failures are
        those of :meth:`run`; afterwards `STREAM_BROKEN`. A caller who closes this ends the provider's work.
        """
        run = self._begin(call)
        if call.mock_response:
            self._mock(run, await self.preparation.job(run))
            yield run, Started(run.model)
            yield run, Delta(call.mock_response)
            yield run, None
            return
        with Record(self.recorder, self.clock, run) as record:
            job = await self.preparation.job(run)
            record.open()
            pieces = self.attempts.streamed(run, job)
            try:
                async for piece in pieces:
                    yield run, piece
            finally:
                await pieces.aclose()
        yield run, None

    async def get_config(self, call: RunCall) -> tuple[Run, Job, Sequence[Outgoing | str]]:
        """What :meth:`run` would send, to each place in order; a sentence where it could not ask. Asks nobody and
        records nothing.

        :raises AppError: as :meth:`run`, before it asks a provider
        """
        run = self._begin(call)
        job = await self.preparation.job(run)
        return run, job, [self._outgoing(place) for place in job.places]

    def _outgoing(self, place: Place) -> Outgoing | str:
        if place.problem is not None:
            return place.problem.message
        request = place.request
        try:
            return self.attempts.providers[request.provider.kind].request_of(request, streamed=False)
        except AppError as error:
            return error.message

    def _begin(self, call: RunCall) -> Run:
        started, seen = self.clock.now(), self.catalog.usable_view()
        if call.direct is None:
            target = targets.resolve(seen, call.deployment, tenant=call.tenant)
            project = target.project
        else:
            target, project = (
                None,
                targets.project_of_key(
                    seen, call.tenant, instead="call a completion without a deployment with a project's key"
                ),
            )
        said = (*call.prefix_messages, *call.messages)
        return Run(ids.new_uid("req"), call, seen, project, target, self.clock.unix_ns(), started, said)

    def _mock(self, run: Run, job: Job) -> None:
        """Answer as if the version's own provider had."""
        message = Message(Role.ASSISTANT, run.call.mock_response)
        run.answer = ProviderAnswer(message, FinishReason.STOP, Usage(), job.places[0].request.model, 0)
        output = job.prepared.output
        run.output_violations = None if output is None else output.violations(run.call.mock_response)
        run.status = Status.OK
