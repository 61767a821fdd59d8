"""From a call to a job: all that comes before a provider is asked, so that a caller's mistake costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from catalog import plan, view
from catalog.view import DeploymentKind, OutputPolicy, ProviderKind
from completions import schema
from completions import version as versions
from completions.chat import Message, Role
from completions.version import Version
from kit.errors import AppError, Invalid, Precondition, Violation
from kit.json import Json, dump, parse_object
from kit.secrets import Secret
from services.executor import domain, inputs
from services.executor.contracts import Contracts
from services.executor.domain import Overrides, ProviderFailure, ProviderRequest, Reason, Run
from services.executor.job import Job, Place
from services.executor.ports import Credentials, OutputChecks
from services.executor.prepared import Prepared, PreparedVersions

_NEEDS_CREDENTIAL: Final = frozenset((ProviderKind.OPENAI, ProviderKind.ANTHROPIC))
_OPENING: Final = frozenset((Role.SYSTEM, Role.DEVELOPER))


@dataclass(frozen=True, slots=True)
class Preparation:
    """Decides, renders and lays over."""

    contracts: Contracts
    prepared: PreparedVersions
    credentials: Credentials
    outputs: OutputChecks

    def job(self, run: Run) -> Job:
        """What the call comes to; `run` says afterwards what was decided.

        :raises Invalid: what `inputs`, the contract, the templates and `completions.version` refuse; `NO_MESSAGES`;
            `PROVIDER_NOT_FOUND` of a direct completion
        :raises Precondition: `DEPLOYMENT_KIND_MISMATCH`, `NO_ACTIVE_VARIANT`, `CONTRACT_BROKEN`,
            `PROVIDER_CREDENTIAL_MISSING` and what else the operator must mend
        """
        variables = inputs.check(run.call)
        completion, given = _DIRECT, run.call.messages
        if run.call.direct is not None:
            prepared, provider, direct = self._direct(run, run.call.direct())
            given = (*direct, *given)
        else:
            completion = self._decide(run, variables)
            prepared, provider = self.prepared.get(run.seen, run.project.uid, completion.version)
            if run.call.overrides is not None:
                prepared = self._laid_over(run, prepared, provider, run.call.overrides())
        run.provider, run.model = provider.slug, prepared.version.model
        rendered = prepared.compiled.render(variables)
        messages = versions.join(prepared.version.messages, rendered, given)
        if run.call.prefix_messages:
            messages = _prefixed(messages, len(rendered), run.call.prefix_messages)
        if not messages:
            raise Invalid(
                "there is nothing to say: the version has no messages, and the call gives none", reason="NO_MESSAGES"
            )
        return Job(
            places=self._places(run, completion, prepared, provider, messages),
            version=prepared.version,
            tools_text=prepared.tools_text,
            first_token_timeout_seconds=completion.first_token_timeout_seconds or completion.attempt_timeout_seconds,
            idle_timeout_seconds=completion.idle_timeout_seconds or completion.attempt_timeout_seconds,
            output=self.outputs.of(prepared.version.response_format) if prepared.version.response_format else None,
            output_policy=completion.output_policy,
        )

    def _decide(self, run: Run, variables: dict[str, Json]) -> view.Completion:
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
        run.decision = plan.decide(target, key_kind, key)
        completion = domain.completion_of(run.decision)
        run.version = completion.version
        return completion

    def _laid_over(self, run: Run, base: Prepared, provider: view.Provider, overrides: Overrides) -> Prepared:
        """The version with what the call lays over it: one of its own, unless that changes nothing."""
        version = inputs.laid_over(base.version, overrides)
        if overrides.response_format is not None and run.target is not None:
            self.contracts.check_response_format(run.target, overrides.response_format)
        uid = versions.version_id(replace(version, provider=provider.slug))
        if uid == base.uid:
            return base
        run.base_version, run.version, run.seen_version = base.uid, uid, version
        return self.prepared.made(run.project.uid, uid, version, provider)

    def _direct(self, run: Run, given: Version) -> tuple[Prepared, view.Provider, Sequence[Message]]:
        """A version made of what the call brings, and those of its messages that are not the version's."""
        provider = run.seen.provider_named(run.project.uid, given.provider) or run.seen.provider(given.provider)
        if provider is None or provider.project != run.project.uid:
            problem = Violation("direct.provider", f"there is no provider {given.provider!r} in this project")
            raise Invalid(problem.message, reason="PROVIDER_NOT_FOUND", violations=(problem,))
        parts = versions.split(given.messages, variables_given=bool(run.call.variables_json))
        version = replace(given, provider=provider.uid, messages=parts.version)
        inputs.check_version(replace(version, provider=provider.slug), field="direct")
        declared = "" if given.variables_schema is None else dump(given.variables_schema)
        version = replace(version, variables_schema=_variables_schema(parts.version, declared))
        uid = versions.version_id(replace(version, provider=provider.slug))
        run.version, run.seen_version = uid, version
        return self.prepared.made(run.project.uid, uid, version, provider), provider, parts.input

    def _places(
        self,
        run: Run,
        completion: view.Completion,
        prepared: Prepared,
        provider: view.Provider,
        messages: Sequence[Message],
    ) -> Sequence[Place]:
        statuses = completion.retry_statuses
        credential = self._credential(run.seen, provider) if not completion.fallbacks else None
        first = ProviderRequest(provider, credential, prepared.version.model, prepared.body, messages, statuses)
        own = Place(0, first, completion.max_retries, completion.attempt_timeout_seconds)
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
        request = replace(first, provider=provider, credential=None, model=fallback.model, prepared_body=b"")
        place = Place(index, request, fallback.max_retries, fallback.attempt_timeout_seconds)
        try:
            body = self.prepared.fallback_body(prepared, fallback, provider.kind)
        except AppError as error:
            # What the version says, this contract has no word for: one place less.
            return replace(place, problem=ProviderFailure(Reason.ERROR, error.message, 0, is_retryable=False))
        return self._with_credential(run.seen, replace(place, request=replace(request, prepared_body=body)))

    def _with_credential(self, seen: view.View, place: Place) -> Place:
        """Where others may be asked instead, a credential that is missing is no reason to give up."""
        try:
            credential = self._credential(seen, place.request.provider)
        except AppError as error:
            problem = ProviderFailure(Reason.CREDENTIAL_REFUSED, error.message, 0, is_retryable=False)
            return replace(place, problem=problem)
        return replace(place, request=replace(place.request, credential=credential))

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


_DIRECT: Final = view.Completion("", 0, None, output_policy=OutputPolicy.MARK)
"""How hard a completion without a deployment is tried."""


@lru_cache(512)
def _variables_schema(messages: tuple[Message, ...], declared: str) -> dict[str, Json] | None:
    """Of the same messages again and again, each time with other variables."""
    return schema.variables_schema(messages, parse_object(declared, field="direct.variables_schema_json") or None)


def _prefixed(messages: Sequence[Message], rendered_count: int, prefix: tuple[Message, ...]) -> tuple[Message, ...]:
    """With messages after the version's leading system messages, before all others."""
    opening = 0
    while opening < rendered_count and messages[opening].role in _OPENING:
        opening += 1
    return (*messages[:opening], *prefix, *messages[opening:])
