"""What providers offer, and whether versions ask for something else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from completions.version import Version as Content
from completions.version import version_id
from kit.errors import Invalid, Precondition, Violation
from services.registry import domain
from services.registry.application.access import find_project
from services.registry.domain import Caller, CheckFailure, ModelList, Provider, missing
from services.registry.ports import ModelLists, Store


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
            project = await find_project(tx, caller, project_segment)
            found = await tx.provider(project, segment)
        if found is None:
            raise missing("provider", f"projects/{project_segment}/providers/{segment}")
        return found


@dataclass(frozen=True, slots=True)
class ModelChecks:
    """Whether providers offer the models that new versions name. Asks them over the network, so it comes before the
    transaction that writes.

    :param is_on: the operator's setting
    """

    store: Store
    lists: ModelLists
    is_on: bool

    async def check(
        self, caller: Caller, project_segment: str, wanted: Sequence[tuple[str, Content | None]], *, skip: bool
    ) -> tuple[str, ...]:
        """Warnings: what could not be checked, and why. What else is wrong with a request, the transaction finds.

        :param wanted: paths of versions in the request, and those that are to be made; None for none
        :param skip: the caller's wish
        :raises NotFound: `PROJECT_NOT_FOUND`
        :raises Invalid: `MODEL_UNKNOWN`, with every such field and the nearest names
        """
        if skip or not self.is_on:
            return ()
        fresh = await self._fresh(caller, project_segment, wanted)
        providers = {provider.uid: provider for _, _, provider in fresh}
        outcomes = dict(zip(providers, await asyncio.gather(*map(self.lists.of, providers.values())), strict=True))
        warnings: dict[str, None] = {}
        unknown: list[Violation] = []
        for field, model, provider in fresh:
            outcome = outcomes[provider.uid]
            if isinstance(outcome, CheckFailure):
                warnings[f"the model {model!r} was not checked: {outcome.sentence} ({outcome.reason})"] = None
            elif not domain.offers(provider.kind, outcome.models, model):
                # In a thread: ten thousand names are not compared within a moment.
                near = await asyncio.to_thread(domain.nearest, model, outcome.models)
                unknown.append(_violation(f"{field}.model", model, provider, near))
        if unknown:
            raise Invalid(f"{unknown[0].field} {unknown[0].message}", reason="MODEL_UNKNOWN", violations=unknown)
        return tuple(warnings)

    async def _fresh(
        self, caller: Caller, project_segment: str, wanted: Sequence[tuple[str, Content | None]]
    ) -> list[tuple[str, str, Provider]]:
        """Field, model and provider of those versions that are not stored yet."""
        given = [(field, content) for field, content in wanted if content is not None]
        if not given:
            return []
        found = []
        async with self.store.reading() as tx:
            project = await find_project(tx, caller, project_segment)
            named = {content.provider for _, content in given}
            providers = {segment: await tx.provider(project, segment) for segment in named}
            for field, content in given:
                provider = providers[content.provider]
                if provider is None or provider.archived_at is not None:
                    continue
                uid = version_id(replace(content, provider=provider.slug))
                if await tx.version(project, uid) is None:
                    found.append((field, content.model, provider))
        return found


def _violation(field: str, model: str, provider: Provider, near: Sequence[str]) -> Violation:
    hint = f"the nearest are {', '.join(map(repr, near))}" if near else "nothing that it lists has a name like it"
    return Violation(
        field,
        f"names {model!r}, which {provider.slug!r} does not list (skip_model_check takes it nevertheless); {hint}",
    )
