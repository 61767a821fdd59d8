"""What every servicer begins and ends with."""

from __future__ import annotations

from typing import Any, Final, TypeAlias, TypeVar

import grpc

from catalog.keys import SEQUENCE_HEADER
from kit import calls
from kit.interceptors.auth import allows
from services.registry.application.access import Written
from services.registry.domain import APPROVE, PLATFORM_ADMIN, Caller

T = TypeVar("T")

PROJECT: Final = "projects/*"

# Generated stubs type the context by request and response; nothing here depends on it.
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


def caller() -> Caller:
    """Who calls."""
    principal = calls.principal()
    return Caller(
        principal.key_id, principal.tenant, PLATFORM_ADMIN in principal.scopes, may_approve=allows(principal, APPROVE)
    )


def announced(written: Written[T]) -> T:
    """What was written; the answer carries its sequence, so that the caller can read its own writes elsewhere."""
    if written.sequence:
        calls.current().trailing_metadata.append((SEQUENCE_HEADER, str(written.sequence)))
    return written.value
