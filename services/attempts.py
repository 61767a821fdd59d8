"""What an attempt says, for whoever reads attempts: the room that makes them, and what counts their events."""

from __future__ import annotations

from typing import Final

from catalog.view import ProviderKind

_UNASKED: Final = frozenset(
    (
        "PROVIDER_CIRCUIT_OPEN",
        "PROVIDER_BUSY",
        "PROVIDER_CREDENTIAL_MISSING",
        # These may be the provider's answer, too: then they have its status.
        "PROVIDER_CREDENTIAL_REFUSED",
        "PROVIDER_ADDRESS_REFUSED",
        "PROVIDER_REJECTED_REQUEST",
    )
)
_PROVIDER_NAMES: Final = {
    ProviderKind.OPENAI: "openai",
    ProviderKind.ANTHROPIC: "anthropic",
    ProviderKind.OLLAMA: "ollama",
}


def provider_name(kind: ProviderKind | None, slug: str) -> str:
    """`gen_ai.provider.name`: who is asked in OpenTelemetry's words, where it has one; else what the operator calls it.

    :param kind: None where the provider is not known any more
    """
    return slug if kind is None else _PROVIDER_NAMES.get(kind, slug)


def asked_nobody(reason: str, http_status: int) -> bool:
    """Whether an attempt ended before anything was sent: it says nothing of how long the provider takes.

    :param reason: as in an event's `Attempt`; empty for success
    :param http_status: 0 when no answer came
    """
    return http_status == 0 and reason in _UNASKED
