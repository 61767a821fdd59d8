"""How hard to try, and where else. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final

from completions.version import Parameters
from kit.json import dump
from services.registry.domain.access import violated

MAX_PARAMETERS_BYTES: Final = 16 << 10
"""Of all fallbacks of one variant: they are in every deployment that is listed, and in the catalog."""


class OutputPolicy(StrEnum):
    """What becomes of an answer that does not keep to its JSON schema."""

    MARK = "mark"
    RETRY = "retry"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Fallback:
    """Where a completion runs when it cannot run where it should."""

    provider: str
    """Its slug; of what a caller asks for, the slug or the uid."""
    model: str
    parameters: Parameters | None = None
    """None: the version's own."""
    max_retries: int = 0
    attempt_timeout: timedelta | None = None
    provider_uid: str = ""
    """Empty in what a caller asks for."""


@dataclass(frozen=True, slots=True)
class Execution:
    """What is done about failures, beyond repeating an attempt."""

    fallbacks: tuple[Fallback, ...] = ()
    retry_statuses: tuple[int, ...] = ()
    """In ascending order; empty: the usual."""
    first_token_timeout: timedelta | None = None
    """None: as the attempt's; the next likewise."""
    idle_timeout: timedelta | None = None
    output_policy: OutputPolicy = OutputPolicy.MARK


USUAL: Final = Execution()
"""What nobody asked for."""


def check_parameters_size(execution: Execution, *, field: str) -> None:
    """:param field: path of the fallbacks in the request
    :raises Invalid: `FALLBACKS_TOO_LARGE`
    """
    size = sum(_size(fallback.parameters) for fallback in execution.fallbacks if fallback.parameters is not None)
    if size > MAX_PARAMETERS_BYTES:
        raise violated(
            "FALLBACKS_TOO_LARGE",
            field,
            f"must hold at most {MAX_PARAMETERS_BYTES} bytes of stop sequences and extra parameters, hold {size}",
        )


def _size(parameters: Parameters) -> int:
    texts = (*parameters.stop, parameters.reasoning_effort or "", dump(parameters.extra))
    return sum(len(text.encode()) for text in texts)


def repeated_targets(provider: str, model: str, execution: Execution) -> Iterator[str]:
    """Warnings: fallbacks that go where the call has failed already.

    :param provider: the slug of the version's own
    :param model: likewise
    """
    seen = {(provider, model): "the version's own"}
    for number, fallback in enumerate(execution.fallbacks, start=1):
        target = (fallback.provider, fallback.model)
        if target in seen:
            named = f"fallback {number} ({fallback.provider}/{fallback.model})"
            yield f"{named} is the same provider and model as {seen[target]}"
        else:
            seen[target] = f"fallback {number}"
