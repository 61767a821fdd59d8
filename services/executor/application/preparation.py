"""From a call to a job: all that comes before a provider is asked, so that a caller's mistake costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import msgspec

from catalog import plan, view
from catalog.conditions import read_context
from catalog.rules import Context
from catalog.view import DeploymentKind, OutputPolicy, ProviderKind
from completions import schema
from completions import version as versions
from completions.chat import Message, Role
from completions.version import Version
from kit import values
from kit.errors import AppError, Invalid, Precondition, Violation
from kit.json import Json
from kit.secrets import Secret
from services.executor import domain, inputs
from services.executor.contracts import Contracts
from services.executor.domain import ProviderFailure, ProviderRequest, Reason, Run, Unread
from services.executor.job import Job, Place
from services.executor.ports import Credentials
from services.executor.prepared import Prepared, PreparedVersions

_NEEDS_CREDENTIAL: Final = frozenset((ProviderKind.OPENAI, ProviderKind.ANTHROPIC))
_OPENING: Final = frozenset((Role.SYSTEM, Role.DEVELOPER))


@dataclass(frozen=True, slots=True)
class Preparation:
    """Decides, renders and lays over."""

    planner: plan.Planner
    contracts: Contracts
    prepared: PreparedVersions
    credentials: Credentials

    async def job(self, run: Run) -> Job:
        """What the call comes to; `run` says afterwards what was decided.

        :raises Invalid: what `inputs`, the contract, the templates and `completions.version` refuse; `NO_MESSAGES`;
            `PROVIDER_NOT_FOUND` of a direct completion
        :raises Precondition: `DEPLOYMENT_KIND_MISMATCH`, `NO_ACTIVE_VARIANT`, `CONTRACT_BROKEN`,
            `PROVIDER_CREDENTIAL_MISSING` and what else the operator must mend
        """
        call = run.call
        variables = inputs.check(call)
        # Before it is known whether rules ask about it: what is refused never depends on them.
        context = read_context(call.context_json)
        run.has_variables = True
        completion, given = _AS_IS, call.messages
        if call.direct is not None:
            prepared, provider, direct = self._direct(run, call.direct(), variables)
            given = (*direct, *given)
            run.said = (*call.prefix_messages, *given)
        else:
            completion = await self._decide(run, variables, context)
            prepared, provider = self.prepared.get(run.seen, run.project.uid, completion.version)
            if call.overrides is not None:
                prepared = self._laid_over(run, prepared, provider, call.overrides)
        run.provider, run.model = provider.slug, prepared.version.model
        try:
            rendered = prepared.compiled.render(variables)
        except Invalid as refusal:
            raise inputs.unfilled(refusal, is_direct=call.direct is not None) from None
        inputs.check_rendered(rendered)
        messages = versions.join(prepared.version.messages, rendered, given)
        if call.prefix_messages:
            messages = _prefixed(messages, len(rendered), call.prefix_messages)
        if not messages:
            raise Invalid(
                "there is nothing to say: the version has no messages, and the call gives none", reason="NO_MESSAGES"
            )
        return Job(self._places(run, completion, prepared, provider, messages), prepared, completion)

    async def _decide(self, run: Run, variables: dict[str, Json], context: Context) -> view.Completion:
        call, target = run.call, run.target
        assert target is not None  # noqa: S101  # the caller's case
        if target.deployment.kind is not DeploymentKind.COMPLETION:
            raise domain.kind_mismatch(target)
        self.contracts.check(target, variables)
        key_kind, key = plan.choose_key(
            request_id=run.request_id,
            routing_key=call.routing_key,
            identity=call.identity,
            thread=call.thread,
            user=call.user,
        )
        try:
            run.decision = await self.planner.decide(target, key_kind, key, context)
        except plan.NothingActive as nothing:
            run.refusal = nothing.refusal
            raise
        completion = domain.completion_of(run.decision)
        run.version = completion.version
        return completion

    def _laid_over(self, run: Run, base: Prepared, provider: view.Provider, overrides: Unread) -> Prepared:
        """The version with what the call lays over it: recorded as one of its own, unless that changes nothing."""
        target = run.target
        assert target is not None  # noqa: S101  # a direct completion says all itself

        def make() -> tuple[str, Version]:
            given = overrides.read()
            version = inputs.laid_over(base.version, given)
            if given.response_format is not None:
                self.contracts.check_response_format(target, given.response_format)
            return versions.version_id(replace(version, provider=provider.slug)), version

        held = None if target.contract is None else target.contract.response_format_json
        with inputs.below("overrides"):
            made = self.prepared.of_call(run.project.uid, (base.uid, held, overrides.text), provider, make, overrides)
        if made.uid != base.uid:
            run.base_version, run.version, run.seen_version = base.uid, made.uid, made.version
        # Not the base, even if it says the same: what is laid over wins at fallbacks too, which may say something else.
        return made

    def _direct(
        self, run: Run, given: Version, variables: Mapping[str, Json]
    ) -> tuple[Prepared, view.Provider, Sequence[Message]]:
        """A version made of what the call brings, and those of its messages that are not the version's."""
        provider = run.seen.provider_named(run.project.uid, given.provider) or run.seen.provider(given.provider)
        if provider is None or provider.project != run.project.uid:
            problem = Violation("direct.provider", f"there is no provider {given.provider!r} in this project")
            raise Invalid(problem.message, reason="PROVIDER_NOT_FOUND", violations=(problem,))
        parts = versions.split(given.messages, variables_given=bool(run.call.variables_json))
        brought = replace(given, provider=provider.uid, messages=parts.version)
        with inputs.below("direct"):
            made = self.prepared.of_call(
                run.project.uid, (msgspec.json.encode(brought),), provider, partial(_named, brought, provider)
            )
        run.version, run.seen_version = made.uid, made.version
        declares = given.variables_schema and run.call.variables_json
        if declares and made.version.variables_schema is not None:
            self.contracts.check_declared(made.version.variables_schema, variables)
        return made, provider, parts.input

    def _places(
        self,
        run: Run,
        completion: view.Completion,
        prepared: Prepared,
        provider: view.Provider,
        messages: Sequence[Message],
    ) -> Sequence[Place]:
        statuses, body = completion.retry_statuses, prepared.body
        credential = None if completion.fallbacks else self._credential(run.seen, provider)
        first = ProviderRequest(provider, credential, prepared.version.model, body.prepared, messages, statuses)
        own = Place(0, first, completion.max_retries, completion.attempt_timeout_seconds, body.answer_tokens)
        if not completion.fallbacks:
            return (own,)
        places = [self._with_credential(run.seen, own)]
        for index, fallback in enumerate(completion.fallbacks, start=1):
            there = run.seen.provider(fallback.provider)
            # The registry keeps what is in use; a view that is damaged has one fallback less.
            if there is not None:
                places.append(self._fallback(run, index, fallback, there, prepared, first))
        return places

    def _fallback(
        self,
        run: Run,
        index: int,
        fallback: view.Fallback,
        provider: view.Provider,
        prepared: Prepared,
        first: ProviderRequest,
    ) -> Place:
        request = values.replace(first, provider=provider, credential=None, model=fallback.model, prepared_body=b"")
        place = Place(index, request, fallback.max_retries, fallback.attempt_timeout_seconds, 0)
        try:
            body = self.prepared.fallback_body(prepared, fallback, provider)
        except AppError as error:
            # What the version says, this contract has no word for: one place less.
            problem = ProviderFailure(Reason.REJECTED_REQUEST, error.message, 0, is_retryable=False)
            return values.replace(place, problem=problem)
        request = values.replace(request, prepared_body=body.prepared)
        return self._with_credential(run.seen, values.replace(place, request=request, answer_tokens=body.answer_tokens))

    def _with_credential(self, seen: view.View, place: Place) -> Place:
        """Where others may be asked instead, a credential that is missing is no reason to give up."""
        try:
            credential = self._credential(seen, place.request.provider)
        except AppError as error:
            problem = ProviderFailure(Reason.CREDENTIAL_MISSING, error.message, 0, is_retryable=False)
            return values.replace(place, problem=problem)
        return values.replace(place, request=values.replace(place.request, credential=credential))

    def _credential(self, seen: view.View, provider: view.Provider) -> Secret | None:
        credential = seen.credential(provider.uid)
        if credential is not None:
            return self.credentials.open(credential)
        if provider.kind in _NEEDS_CREDENTIAL:
            raise Precondition(
                f"the provider {provider.slug!r} has no credential; set one",
                reason="PROVIDER_CREDENTIAL_MISSING",
                provider=provider.slug,
            )
        return None


_AS_IS: Final = view.Completion("", 0, None, output_policy=OutputPolicy.MARK)
"""How hard a completion without a deployment is tried: once."""


def _named(brought: Version, provider: view.Provider) -> tuple[str, Version]:
    """The id and the whole of a version that a call brings along."""
    uses = versions.validate(replace(brought, provider=provider.slug))
    version = replace(
        brought, variables_schema=schema.variables_schema(brought.messages, brought.variables_schema or None, uses)
    )
    return versions.version_id(replace(version, provider=provider.slug)), version


def _prefixed(messages: Sequence[Message], rendered_count: int, prefix: tuple[Message, ...]) -> tuple[Message, ...]:
    """With messages after the version's leading system messages, before all others."""
    opening = 0
    while opening < rendered_count and messages[opening].role in _OPENING:
        opening += 1
    return (*messages[:opening], *prefix, *messages[opening:])
