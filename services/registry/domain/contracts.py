"""What callers of a deployment rely on, and whether a change keeps it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from completions.contract import Comparison, Contract, compare, contract_of, removed_last_user, requiring
from kit.errors import Precondition, Violation
from kit.json import dump, parse_object
from services.registry.domain.access import violated
from services.registry.domain.deployments import Completion, Revision
from services.registry.domain.providers import Version

MAX_CONTRACT_BYTES: Final = 64 << 10
"""Every service holds the contracts of all aliases, and gets those of one deployment in one message."""


def revision_contract(revision: Revision, uses: Iterable[object]) -> Contract | None:
    """What callers of a revision can rely on; None where nothing says so: without variants, and of recommendations.

    :param uses: the versions that its variants use
    :raises Invalid: `CONTRACT_CONFLICT` where variants contradict each other; `CONTRACT_TOO_LARGE`
    """
    contents = {thing.uid: thing.content for thing in uses if isinstance(thing, Version)}
    variants = {
        variant.slug: Contract(content.variables_schema, content.response_format)
        for variant in revision.variants
        if isinstance(variant.serving, Completion) and (content := contents.get(variant.serving.version)) is not None
    }
    if not variants:
        return None
    contract = contract_of(variants)
    if len(contract_to_text(contract).encode()) > MAX_CONTRACT_BYTES:
        raise violated(
            "CONTRACT_TOO_LARGE", "variants", f"have variables whose schema is longer than {MAX_CONTRACT_BYTES} bytes"
        )
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
    # What one of its variants cannot do without, every call must bring; what none of them uses any more, no call must.
    kept = requiring(held, offered)
    if offered == base:
        return kept, ()
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
    return kept, tuple(each.sentence for each in compared.warnings if each not in told)


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
