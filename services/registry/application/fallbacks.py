"""Where completions run when they cannot run where they should."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from completions.version import Parameters, validate
from completions.version import Version as Content
from kit.errors import Violation
from services.registry import domain
from services.registry.application.archives import archived
from services.registry.application.configurations import fields_below
from services.registry.domain import (
    Completion,
    CompletionDraft,
    Deployment,
    Execution,
    Fallback,
    Model,
    Project,
    Provider,
    Serving,
    ServingDraft,
    Version,
)
from services.registry.ports import Reading


def named_fallbacks(draft: ServingDraft, *, field: str) -> list[tuple[str, Fallback]]:
    """A draft's, with their paths in the request.

    :param field: path of the variant
    """
    if not isinstance(draft, CompletionDraft):
        return []
    return [
        (f"{field}.completion.fallbacks[{index}]", fallback) for index, fallback in enumerate(draft.execution.fallbacks)
    ]


def check_fallbacks(draft: ServingDraft, *, field: str) -> None:
    """What is wrong with them, whatever is stored.

    :param field: path of the variant in the request
    :raises Invalid: `VERSION_INVALID` for a model or parameters that no version could have, `FALLBACKS_TOO_LARGE`
    """
    for path, fallback in named_fallbacks(draft, field=field):
        with fields_below(path):
            validate(Content("any", fallback.model, parameters=fallback.parameters or Parameters()))
    if isinstance(draft, CompletionDraft):
        domain.check_parameters_size(draft.execution, field=f"{field}.completion.fallbacks")


async def resolved(tx: Reading, project: Project, draft: CompletionDraft, *, field: str) -> Execution:
    """With the providers that its fallbacks name.

    :param field: path of the variant in the request
    :raises Invalid: `PROVIDER_NOT_FOUND`, with every such field
    :raises Precondition: `PROVIDER_ARCHIVED`
    """
    named = named_fallbacks(draft, field=field)
    known = {segment: await tx.provider(project, segment) for segment in {fallback.provider for _, fallback in named}}
    wrong, fallbacks = list[Violation](), list[Fallback]()
    for path, fallback in named:
        provider = known[fallback.provider]
        if provider is None:
            wrong.append(Violation(f"{path}.provider", f"there is no provider {fallback.provider!r} here"))
        else:
            fallbacks.append(replace(fallback, provider=provider.slug, provider_uid=provider.uid))
    if wrong:
        raise domain.all_violated("PROVIDER_NOT_FOUND", wrong)
    _check_in_service(known[fallback.provider] for _, fallback in named)
    return replace(draft.execution, fallbacks=tuple(fallbacks))


async def check_fallbacks_not_archived(tx: Reading, deployment: Deployment) -> None:
    """Whether callers may come to meet what its aliases point to.

    :raises Precondition: `PROVIDER_ARCHIVED`
    """
    uids = dict.fromkeys(fallback.provider_uid for fallback in deployment.fallbacks)
    _check_in_service([await tx.provider(deployment.project, uid) for uid in uids])


def warnings_of(serving: Serving, used: Version | Model) -> Sequence[str]:
    """What may surprise.

    :param used: what it runs
    """
    if not isinstance(serving, Completion) or not isinstance(used, Version):
        return ()
    return tuple(domain.repeated_targets(used.content.provider, used.content.model, serving.execution))


def _check_in_service(providers: Iterable[Provider | None]) -> None:
    for provider in providers:
        if provider is not None and provider.archived_at is not None:
            raise archived(provider)
