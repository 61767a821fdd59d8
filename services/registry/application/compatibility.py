"""Use cases of contracts: would callers break?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from completions.contract import Comparison, Contract, compare
from kit.errors import Precondition
from services.registry import domain
from services.registry.application.access import find_project
from services.registry.application.changes import find
from services.registry.application.configurations import fields_below
from services.registry.application.history import revision_of
from services.registry.domain import Caller, Deployment, DeploymentKind, Model, Revision, Version
from services.registry.ports import Store

_Used: TypeAlias = Sequence[Version | Model]


@dataclass(frozen=True, slots=True)
class Compatibility:
    """What callers would notice, without any change."""

    store: Store

    async def compare_contracts(self, caller: Caller, project: str, before: Contract, after: Contract) -> Comparison:
        """Two of the caller's own.

        :raises NotFound: `PROJECT_NOT_FOUND`
        :raises Invalid: as :func:`completions.contract.compare`
        """
        async with self.store.reading() as tx:
            await find_project(tx, caller, project)
        return await asyncio.to_thread(_compared, before, after)

    async def check_revision(
        self, caller: Caller, project: str, deployment: str, alias: str, segment: str
    ) -> Comparison:
        """What callers of an alias would notice of a revision.

        :raises NotFound: `ALIAS_NOT_FOUND`, `REVISION_NOT_FOUND`
        :raises Precondition: `CONTRACT_UNDEFINED` where a side says nothing: without variants, and of recommendations
        """
        async with self.store.reading() as tx:
            found = await find(tx, caller, project, deployment)
            pointed = found.pointed_to(alias)
            revision = await revision_of(tx, found, segment)
            sides = [(each, await tx.things(found.project, each)) for each in (pointed, revision)]
        pointer = found.alias(alias)
        return await asyncio.to_thread(_judged, found, None if pointer is None else pointer.contract, *sides)


# Comparing large schemas takes some 100 ms, so both of these run in threads.


def _compared(before: Contract, after: Contract) -> Comparison:
    for side, contract in (("before", before), ("after", after)):
        # Each by itself first: of the two together nothing says which one cannot be judged.
        with fields_below(side):
            compare(contract, contract)
    return compare(before, after)


def _judged(
    deployment: Deployment, held: Contract | None, base: tuple[Revision, _Used], offered: tuple[Revision, _Used]
) -> Comparison:
    """:param held: the alias's own; None if it has that of `base`"""
    of_base, of_offered = (domain.promise_of(*side).contract() for side in (base, offered))
    held = held or of_base
    if held is None or of_offered is None:
        why = "recommendations have no contract"
        if deployment.kind is DeploymentKind.COMPLETION:
            why = f"{'the alias' if held is None else 'the revision'} has no variant that says what callers rely on"
        raise Precondition(f"{deployment.name}: {why}", reason="CONTRACT_UNDEFINED", resource=deployment.name)
    return domain.compare_for_alias(held, of_base, of_offered)
