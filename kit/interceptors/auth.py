"""Who calls, and may they: the rule that an rpc's contract declares, enforced before its code runs."""

from __future__ import annotations

from typing import Final, Protocol

from google.protobuf.message import Message

from kit.calls import Call, Principal
from kit.errors import Denied, Unauthenticated, Unavailable
from kit.interceptors.gate import Gate

ADMIN_SCOPE: Final = "platform:admin"
INTERNAL_PREFIX: Final = "catalog:"
"""Scopes that not even `platform:admin` implies: they are for services."""


class Authenticator(Protocol):
    """Knows keys."""

    async def authenticate(self, key: str, call: Call) -> Principal:
        """Who presents `key`.

        :raises Unauthenticated: if nobody
        :raises Unavailable: if it cannot be told now
        """
        ...


class Auth(Gate):
    """Interceptor: the key of `authorization: Bearer …` or `x-api-key`, and the scope that the rpc asks for."""

    def __init__(self, authenticator: Authenticator | None = None) -> None:
        self._authenticator = authenticator

    def use(self, authenticator: Authenticator) -> None:
        """Who knows keys. Set once, before the server starts: what knows them may itself need the server's handlers."""
        self._authenticator = authenticator

    async def enter(self, call: Call, request: Message | None) -> None:
        if self._authenticator is None:
            raise Unavailable("this process cannot check keys yet; try again", reason="NOT_WIRED")
        principal = await self._authenticator.authenticate(presented_key(call), call)
        if not allows(principal, call.method.scope):
            raise Denied(
                f"this key lacks the scope {call.method.scope}; ask for a key that has it",
                reason="SCOPE_MISSING",
                scope=call.method.scope,
            )
        call.principal = principal


def presented_key(call: Call) -> str:
    """The key that a call carries.

    :raises Unauthenticated: `KEY_MISSING` if it carries none
    """
    header = call.text("authorization")
    if header[:7].lower() == "bearer ":
        return header[7:].strip()
    if key := call.text("x-api-key"):
        return key
    raise Unauthenticated(
        "no API key: send it as `authorization: Bearer tk_…` or `x-api-key: tk_…`", reason="KEY_MISSING"
    )


def allows(principal: Principal, scope: str) -> bool:
    """Whether a key may do what asks for `scope`."""
    return scope in principal.scopes or (ADMIN_SCOPE in principal.scopes and not scope.startswith(INTERNAL_PREFIX))
