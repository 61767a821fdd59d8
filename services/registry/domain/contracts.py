"""What callers of a deployment rely on, and whether a change keeps it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from completions.contract import Comparison, Contract, InputCheck, compare, contract_of, moved, removed_last_user
from completions.version import Version as Content
from kit.errors import Invalid, Precondition, Violation
from kit.json import dump, parse_object
from services.registry.domain.deployments import Completion, Revision
from services.registry.domain.providers import Version

MAX_CONTRACT_BYTES: Final = 64 << 10
"""Every service holds the contracts of all aliases, and gets those of one deployment in one message."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What the versions of a revision say of contracts. Equal ones come to the same contract."""

    versions: tuple[tuple[str, str], ...]
    """The slug and the version's uid of each variant that has one."""
    contents: Mapping[str, Content] = field(compare=False, repr=False)
    """By the versions' uids."""

    def contract(self) -> Contract | None:
        """What callers can rely on; None where nothing says so: without variants, and of recommendations. May take
        long.

        :raises Invalid: `CONTRACT_CONFLICT` where variants contradict each other; `CONTRACT_TOO_LARGE`
        """
        found = ((slug, self.contents[uid]) for slug, uid in self.versions)
        variants = {slug: Contract(content.variables_schema, content.response_format) for slug, content in found}
        if not variants:
            return None
        return contract_of(variants, max_bytes=MAX_CONTRACT_BYTES)


def promise_of(revision: Revision, uses: Iterable[object]) -> Promise:
    """:param uses: the versions that its variants use"""
    contents = {thing.uid: thing.content for thing in uses if isinstance(thing, Version)}
    servings = ((variant.slug, variant.serving) for variant in revision.variants)
    versions = ((slug, serving.version) for slug, serving in servings if isinstance(serving, Completion))
    return Promise(tuple((slug, uid) for slug, uid in versions if uid in contents), contents)


@dataclass(frozen=True, slots=True)
class Move:
    """An alias, new or there already, that is to point to another revision."""

    name: str
    """Such as `projects/shop/deployments/helper:live`."""
    offered: Promise
    base: Promise | None = None
    """That of the revision that it points to; None for a new alias."""
    held: Contract | None = None
    """The alias's own."""
    retains: bool = False
    """Whether variables may go that callers may still send."""

    def contract(self) -> tuple[Contract | None, tuple[str, ...]]:
        """What the alias holds after it, and what callers may notice. May take long.

        :raises Invalid: as :meth:`Promise.contract`
        :raises Precondition: `CONTRACT_BROKEN`
        """
        offered = self.offered.contract()
        base = offered if self.base == self.offered else self._of_base()
        held = self.held or _first(base)
        if held is None:
            return _first(offered), ()
        if offered is None:
            return held, ()
        contract, warnings = moved_contract(self.name, held, base, offered, retains=self.retains)
        return _first(contract), warnings

    def _of_base(self) -> Contract | None:
        if self.base is None:
            return None
        try:
            return self.base.contract()
        except Invalid:
            if self.held is not None:
                raise
            # Made before contracts were checked: it promises nothing, and must not keep anybody from mending it.
            return None


def _first(contract: Contract | None) -> Contract | None:
    """One that an alias comes to hold: calls can be checked by it."""
    if contract is not None:
        InputCheck().prepare(contract)
    return contract


def compare_for_alias(held: Contract, base: Contract | None, offered: Contract, *, retains: bool = False) -> Comparison:
    """What callers of an alias would find different.

    :param held: the alias's contract
    :param base: that of the revision that it points to, which may lack what the contract keeps for its callers
    :param retains: whether variables may go that callers may still send
    """
    removed = set(removed_last_user(held, base)) if base is not None else set()
    if retains:
        removed |= set(removed_last_user(held, offered))
    return compare(held, offered).without(removed)


def moved_contract(
    name: str, held: Contract, base: Contract | None, offered: Contract, *, retains: bool
) -> tuple[Contract, tuple[str, ...]]:
    """What an alias holds after it moved; refused where that would break callers.

    :param name: the alias, such as `projects/shop/deployments/helper:live`
    :return: the contract, and what may surprise callers, in sentences; what was told of the base is not told again
    :raises Precondition: `CONTRACT_BROKEN`, with a violation for every path that differs, both sides in it
    """
    if offered == base:
        return _after(held, offered), ()
    compared = compare_for_alias(held, base, offered, retains=retains)
    if compared.differences:
        hint = "callers would break: use another alias or deployment"
        if not compared.without(removed_last_user(held, offered)).differences:
            hint = "retain_contract keeps callers valid who still send it"
        raise Precondition(
            f"{name}: {compared.differences[0].sentence}; {hint}",
            reason="CONTRACT_BROKEN",
            violations=[Violation(each.path, each.sentence) for each in compared.differences],
            resource=name,
        )
    told = () if base is None else compare(held, base).warnings
    return _after(held, offered), tuple(each.sentence for each in compared.warnings if each not in told)


def _after(held: Contract, offered: Contract) -> Contract:
    # What its variants need and allow now, calls must keep to, no matter what earlier ones did; what none of them uses
    # any more, callers may still send.
    return moved(held, offered, max_bytes=MAX_CONTRACT_BYTES)


def contract_to_text(contract: Contract) -> str:
    """As the store keeps it: a JSON object."""
    return dump({"variables": contract.variables, "response_format": contract.response_format})


def contract_from_text(text: str) -> Contract:
    """The inverse of :func:`contract_to_text`."""
    found = parse_object(text, field="contract", max_bytes=2 * MAX_CONTRACT_BYTES)
    variables, response_format = found["variables"], found["response_format"]
    return Contract(
        variables if isinstance(variables, dict) else None,
        response_format if isinstance(response_format, dict) else None,
    )
