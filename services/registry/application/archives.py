"""What archived providers, models and prompts are kept out of, and what keeps them from being archived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from kit.errors import Precondition, Violation
from services.registry.domain import Model, Project, Prompt, Provider, Version
from services.registry.ports import Reading

_NAMED_USES: Final = 10


async def check_unused(tx: Reading, project: Project, thing: Provider | Model | Prompt) -> None:
    """Whether it may be archived: what an alias of a deployment in service points to may not lose it.

    :raises Precondition: `PROVIDER_IN_USE`, `MODEL_IN_USE`, `PROMPT_IN_USE`; up to ten users are its
        violations, and in metadata `uses`, separated by `; `
    """
    found = await tx.uses(project, thing, _NAMED_USES + 1)
    if not found:
        return
    named = [f"{use.deployment} (alias {use.alias})" for use in found[:_NAMED_USES]]
    more = " and others" if len(found) > _NAMED_USES else ""
    raise Precondition(
        # What to do comes first: a long message is cut at its end, and the violations have them all.
        f"{thing.name} is in use; first give something else to, or archive, {', '.join(named)}{more}",
        reason=f"{_kind(thing)}_IN_USE",
        violations=[Violation(use.deployment, f"its alias {use.alias} uses it") for use in found[:_NAMED_USES]],
        resource=thing.name,
        uses="; ".join(named),
    )


async def check_not_archived(tx: Reading, project: Project, things: Sequence[Version | Model]) -> None:
    """Whether callers may come to meet these: none of them needs anything that is archived.

    :param things: what revisions that aliases (will) point to use
    :raises Precondition: `PROVIDER_ARCHIVED`, `MODEL_ARCHIVED`
    """
    for model in things:
        if isinstance(model, Model) and model.archived_at is not None:
            raise archived(model)
    for uid in {version.provider: None for version in things if isinstance(version, Version)}:
        provider = await tx.provider(project, uid)
        if provider is not None and provider.archived_at is not None:
            raise archived(provider)


def archived(thing: Provider | Model | Prompt) -> Precondition:
    """`PROVIDER_ARCHIVED`, `MODEL_ARCHIVED` or `PROMPT_ARCHIVED`."""
    return Precondition(
        f"{thing.name} is archived; unarchive it to use it again",
        reason=f"{_kind(thing)}_ARCHIVED",
        resource=thing.name,
    )


def _kind(thing: Provider | Model | Prompt) -> str:
    return "MODEL" if isinstance(thing, Model) else "PROMPT" if isinstance(thing, Prompt) else "PROVIDER"
