"""Kinds of providers that the registry knows and nothing here speaks to yet."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from catalog.view import ProviderKind
from completions.version import Version
from kit.errors import Unimplemented
from services.executor.domain import Delta, ProviderAnswer, ProviderFailure, ProviderRequest, Started


class Unsupported:
    """The Provider port for them. A version of theirs is refused when it is prepared, so nothing is ever sent."""

    def prepare(self, version: Version, kind: ProviderKind) -> bytes:
        """:raises Unimplemented: `PROVIDER_KIND_UNSUPPORTED`, always"""
        raise _unsupported(kind)

    async def complete(self, request: ProviderRequest, timeout_seconds: float) -> ProviderAnswer | ProviderFailure:
        """:raises Unimplemented: as :meth:`prepare`"""
        raise _unsupported(request.provider.kind)

    def stream(
        self, request: ProviderRequest, *, total_seconds: float, silence_seconds: float
    ) -> AsyncGenerator[Started | Delta | ProviderAnswer | ProviderFailure, None]:
        """:raises Unimplemented: as :meth:`prepare`"""
        raise _unsupported(request.provider.kind)


def _unsupported(kind: ProviderKind) -> Unimplemented:
    return Unimplemented(
        f"this version of Turnout does not speak to providers of the kind {kind}; "
        "use one that offers /chat/completions, as openai-compatible",
        reason="PROVIDER_KIND_UNSUPPORTED",
        kind=kind,
    )
