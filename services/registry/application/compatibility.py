"""Use cases of contracts: would callers break?"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from completions.contract import Comparison, Contract, compare
from kit.errors import Invalid, Precondition
from services.registry import domain
from services.registry.application.access import find_project
from services.registry.application.changes import find
from services.registry.application.history import revision_of
from services.registry.domain import Caller, Deployment, DeploymentKind, Model, Revision, Version
from services.registry.ports import Store

_Used: TypeAlias = Sequence[Version | Model]
_FIELD: Final = re.compile(r"^(variables|response_format)(?=$|[.\[])")


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
    _judge("before", before)
    _judge("after", after)
    return compare(before, after)


def _judged(
    deployment: Deployment, held: Contract | None, base: tuple[Revision, _Used], offered: tuple[Revision, _Used]
) -> Comparison:
    """:param held: the alias's own; None if it has that of `base`"""
    of_base, of_offered = domain.revision_contract(*base), domain.revision_contract(*offered)
    held = held or of_base
    if held is None or of_offered is None:
        why = "recommendations have no contract"
        if deployment.kind is DeploymentKind.COMPLETION:
            why = f"{'the alias' if held is None else 'the revision'} has no variant that says what callers rely on"
        raise Precondition(f"{deployment.name}: {why}", reason="CONTRACT_UNDEFINED", resource=deployment.name)
    return domain.compare_for_alias(held, of_base, of_offered)


def _judge(side: str, contract: Contract) -> None:
    """Refuse a side that cannot be compared with anything, by its fields in the request."""
    try:
        compare(contract, contract)
    except Invalid as refusal:
        found = [replace(each, field=f"{side}.{_FIELD.sub(_of_request, each.field)}") for each in refusal.violations]
        message = f"{found[0].field} {found[0].message}" if found else refusal.message
        raise Invalid(message, reason=refusal.reason, violations=found) from None


def _of_request(match: re.Match[str]) -> str:
    return {"variables": "variables_schema_json", "response_format": "response_format_json"}[match[0]]
