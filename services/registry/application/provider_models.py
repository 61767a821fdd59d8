"""What providers offer, and whether versions ask for something else."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from kit.errors import Precondition, Violation
from services.registry import domain
from services.registry.application.access import find_project, repeat_of, segment_in
from services.registry.application.configurations import Complete, with_messages, with_slug
from services.registry.application.providers import find_provider
from services.registry.domain import Caller, CheckFailure, Fallback, ModelList, Project, Provider
from services.registry.ports import ModelLists, Reading, Store, Write

_MAX_HINTS: Final = 5
"""Fields for which the nearest names are looked for: each costs a comparison with everything that is listed."""
_ONCE: Final = Write()


@dataclass(frozen=True, slots=True)
class ProviderModels:
    """The lists of models that providers have."""

    store: Store
    lists: ModelLists

    async def list_models(self, caller: Caller, project_segment: str, segment: str, *, fresh: bool) -> ModelList:
        """What a provider offers, as it said within the last minute.

        :raises NotFound: `PROVIDER_NOT_FOUND`
        :raises Precondition: `PROVIDER_CHECK_FAILED`, metadata `cause`
        """
        provider = await self._provider(caller, project_segment, segment)
        outcome = await self.lists.of(provider, fresh=fresh)
        if isinstance(outcome, CheckFailure):
            raise Precondition(
                outcome.sentence, reason="PROVIDER_CHECK_FAILED", cause=outcome.reason, resource=provider.name
            )
        return outcome

    async def check_provider(self, caller: Caller, project_segment: str, segment: str) -> ModelList | CheckFailure:
        """Ask a provider now.

        :raises NotFound: `PROVIDER_NOT_FOUND`
        """
        return await self.lists.of(await self._provider(caller, project_segment, segment), fresh=True)

    async def _provider(self, caller: Caller, project_segment: str, segment: str) -> Provider:
        async with self.store.reading() as tx:
            return await find_provider(tx, caller, project_segment, segment)


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version that a request would make."""

    field: str
    """Its path in the request."""
    complete: Complete
    prompt: str = ""
    """What its messages come from, as the caller names it; empty if it has its own."""


@dataclass(frozen=True, slots=True)
class ModelChecks:
    """Whether providers offer the models that new versions and fallbacks name. Asks them over the network, so it comes
    before the transaction that writes.

    :param is_on: the operator's setting
    """

    store: Store
    lists: ModelLists
    is_on: bool

    async def check(
        self,
        caller: Caller,
        project_segment: str,
        wanted: Sequence[Wanted],
        *,
        skip: bool,
        fallbacks: Sequence[tuple[str, Fallback]] = (),
        deployment: str = "",
        write: Write = _ONCE,
        rpc: str = "",
    ) -> tuple[str, ...]:
        """Warnings: what could not be checked, and why. What else is wrong with a request, the transaction finds.

        :param skip: the caller's wish
        :param fallbacks: paths of fallbacks in the request, and what they name
        :param deployment: the segment of the one whose variants have these fallbacks, which may be there already
        :raises NotFound: `PROJECT_NOT_FOUND`
        :param write: how the write is done that comes next: what a request made before is not checked again
        :param rpc: that of the write
        :raises Invalid: `MODEL_UNKNOWN`, with every such field and, for the first five, the nearest names;
            `REQUEST_ID_REUSED`
        """
        if skip or not self.is_on:
            return ()
        if not wanted and not fallbacks:
            return ()
        async with self.store.reading() as tx:
            project = await find_project(tx, caller, project_segment)
            if await repeat_of(tx, write, rpc, project):
                return ()
            segments = {each.complete.content.provider for each in wanted} | {each.provider for _, each in fallbacks}
            found = {segment: await tx.provider(project, segment) for segment in segments}
            named = {segment: each for segment, each in found.items() if each is not None and each.archived_at is None}
            fresh = await _new_versions(tx, project, wanted, named)
            if fallbacks:
                fresh += await _new_fallbacks(tx, project, fallbacks, named, deployment)
        providers = {provider.uid: provider for _, _, provider in fresh}
        outcomes = dict(zip(providers, await asyncio.gather(*map(self.lists.of, providers.values())), strict=True))
        warnings: dict[str, None] = {}
        unknown: list[Violation] = []
        near: dict[tuple[str, str], Sequence[str]] = {}
        for field, model, provider in fresh:
            outcome = outcomes[provider.uid]
            if isinstance(outcome, CheckFailure):
                warnings[f"the model {model!r} was not checked: {outcome.sentence} ({outcome.reason})"] = None
            elif not domain.offers(provider.kind, outcome.models, model):
                if (provider.uid, model) not in near and len(unknown) < _MAX_HINTS:
                    # In a thread: ten thousand names are not compared within a moment.
                    near[provider.uid, model] = await asyncio.to_thread(domain.nearest, model, outcome.models)
                unknown.append(_violation(f"{field}.model", model, provider, near.get((provider.uid, model))))
        if unknown:
            raise domain.all_violated("MODEL_UNKNOWN", unknown)
        return tuple(warnings)


async def _new_versions(
    tx: Reading, project: Project, wanted: Sequence[Wanted], named: Mapping[str, Provider]
) -> list[tuple[str, str, Provider]]:
    """Field, model and provider of those that are not stored yet."""
    found = []
    for each in wanted:
        complete = each.complete
        provider = named.get(complete.content.provider)
        if provider is None:
            continue
        if each.prompt:
            parts = domain.with_number(segment_in(project, "prompts", each.prompt))
            prompt = None if parts is None else await tx.prompt(project, *parts)
            if prompt is None:
                continue
            complete = await asyncio.to_thread(with_messages, complete, prompt)
        complete = await with_slug(complete, provider)
        if not await tx.known_versions([(project.uid, complete.uid)]):
            found.append((each.field, complete.content.model, provider))
    return found


async def _new_fallbacks(
    tx: Reading,
    project: Project,
    given: Sequence[tuple[str, Fallback]],
    named: Mapping[str, Provider],
    deployment: str,
) -> list[tuple[str, str, Provider]]:
    """The same of those that no alias of the deployment has yet."""
    found = await tx.deployment(project, deployment)
    known = set() if found is None else {(each.provider_uid, each.model) for each in found.fallbacks}
    paired = [(field, fallback.model, named.get(fallback.provider)) for field, fallback in given]
    return [
        (field, model, provider)
        for field, model, provider in paired
        if provider is not None and (provider.uid, model) not in known
    ]


def _violation(field: str, model: str, provider: Provider, near: Sequence[str] | None) -> Violation:
    """:param near: None if they were not looked for"""
    hint = ""
    if near is not None:
        hint = (
            f"; the nearest are {', '.join(map(repr, near))}" if near else "; nothing that it lists has a name like it"
        )
    return Violation(
        field, f"names {model!r}, which {provider.slug!r} does not list (skip_model_check takes it nevertheless){hint}"
    )
