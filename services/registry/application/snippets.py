"""Use cases of code snippets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from completions.contract import Example, example_of
from kit.errors import Precondition
from services.registry import domain
from services.registry.application.changes import find
from services.registry.application.variants import find_variant
from services.registry.domain import Addresses, Call, Caller, Snippet
from services.registry.ports import Store


@dataclass(frozen=True, slots=True)
class Snippets:
    """Programs that call deployments."""

    store: Store
    addresses: Addresses

    async def code_snippets(
        self, caller: Caller, name: tuple[str, str, str], alias: str, addresses: Addresses
    ) -> tuple[tuple[Snippet, ...], Call]:
        """The programs, and the call in them.

        :param name: segments of project, deployment and variant; the last is empty for whichever variant it is
        :param addresses: where to call; what is empty there is the operator's
        :raises NotFound: `DEPLOYMENT_NOT_FOUND`, `ALIAS_NOT_FOUND`, `VARIANT_NOT_FOUND`
        :raises Precondition: `VARIANT_NOT_REACHABLE` if the variant serves nobody, or too few to find one, with the
            contexts that are tried
        """
        async with self.store.reading() as tx:
            found = await find(tx, caller, name[0], name[1])
            revision = found.pointed_to(alias)
            pointer = found.alias(alias)
            contract = None if pointer is None else pointer.contract
            promise = None
            if contract is None:
                promise = domain.promise_of(revision, await tx.things(found.project, revision))
        if promise is not None:
            contract = await asyncio.to_thread(promise.contract)
        call = await asyncio.to_thread(domain.call_of, revision)
        if name[2]:
            variant = find_variant(found, revision, name[2])
            # Some 100 ms for a variant that hardly serves.
            reached = await asyncio.to_thread(domain.caller_of, found.uid, revision, variant)
            if reached is None:
                why = (
                    "serves calls whose context fulfils a rule, and none was found by what conditions compare: call it "
                    "with such a context"
                    if domain.needs_context(revision, variant)
                    else "serves nobody, or hardly anybody: activate it and raise its weight"
                )
                raise Precondition(
                    f"{found.name}/variants/{variant.slug} {why}",
                    reason="VARIANT_NOT_REACHABLE",
                    resource=f"{found.name}/variants/{variant.slug}",
                )
            call = reached
        target = found.slug if alias == domain.LIVE else f"{found.slug}:{alias}"
        # In a thread: a contract may have a thousand values to look for.
        example = Example({}) if contract is None else await asyncio.to_thread(example_of, contract)
        where = Addresses(
            (addresses.http_url or self.addresses.http_url).rstrip("/"),
            addresses.grpc_address or self.addresses.grpc_address,
        )
        to_change = [f"{each.field} {each.message}" for each in example.violations]
        return domain.snippets(found.kind, target, example.variables, call, where, to_change), call
