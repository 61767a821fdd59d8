"""API keys: their form, and the check that every service makes of them from its local view.

`tk_<12-character id>_<43-character secret>_<6-character checksum>`. The secret is 256 random bits, so one fast hash
of it is enough to store; the checksum lets a typing error or a flood of made-up keys be refused without a look-up.
"""

from __future__ import annotations

import hmac
import re
import secrets
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from operator import mul
from typing import Final, Protocol

from catalog.view import View
from kit.calls import Call, Principal
from kit.errors import Invalid, Unauthenticated

SEQUENCE_HEADER: Final = "turnout-sequence"
"""A call may carry the sequence that an earlier write answered with: it is then served from a view at least as new."""

PROJECT_SCOPES: Final = frozenset(
    {
        "deployments:run",
        "predict",
        "registry:read",
        "registry:write",
        "deployments:approve",
        "executions:read",
        "files:write",
        "events:write",
        "analytics:read",
        "traffic:write",
        "keys:admin",
    }
)
"""What keys of a project may hold."""
PLATFORM_SCOPES: Final = frozenset({"platform:admin", "catalog:watch", "catalog:credentials", "models:register"})
"""What only keys of `projects/-` may hold."""
RATED_SCOPES: Final = frozenset({"deployments:run", "predict"})
"""What a key's `requests_per_minute` bounds: rpcs that ask for one of these."""

_KEY = re.compile(r"tk_([0-9a-z]{12})_([0-9A-Za-z]{43})_([0-9A-Za-z]{6})")
_LOWER: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_BASE62: Final = _LOWER + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS: Final = {character: digit for digit, character in enumerate(_BASE62)}
_PLACES: Final = tuple(62**place for place in reversed(range(6)))
"""What each digit of a checksum counts."""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at its making: the only moment at which its text is known."""

    uid: str
    text: str
    secret_hash: bytes


def new_key() -> NewKey:
    """A key from the system's randomness. 43 characters of 62 carry 256 bits."""
    uid = "".join(secrets.choice(_LOWER) for _ in range(12))
    secret = "".join(secrets.choice(_BASE62) for _ in range(43))
    body = f"tk_{uid}_{secret}"
    return NewKey(uid, f"{body}_{_checksum(body)}", hash_secret(secret))


def parse(text: str) -> tuple[str, bytes]:
    """The id and the hash of the secret of a key.

    :raises Unauthenticated: `KEY_MALFORMED` if it is not a key, by form or by checksum
    """
    match = _KEY.fullmatch(text)
    if match is None or _number(match[3]) != zlib.crc32(text[:-7].encode()):
        raise Unauthenticated("this is not a Turnout key: check that it was copied whole", reason="KEY_MALFORMED")
    return match[1], hash_secret(match[2])


def hash_secret(secret: str) -> bytes:
    """BLAKE2b-256 of the secret part."""
    return blake2b(secret.encode(), digest_size=32).digest()


def check_scopes(scopes: frozenset[str], *, platform: bool) -> None:
    """Whether a new key may hold these.

    :raises Invalid: `SCOPE_UNKNOWN`, naming what it may hold
    """
    allowed = PLATFORM_SCOPES | PROJECT_SCOPES if platform else PROJECT_SCOPES
    if unknown := sorted(scopes - allowed):
        raise Invalid(
            f"no such scope for a key of {'the platform' if platform else 'a project'}: {', '.join(unknown)}; "
            f"there are {', '.join(sorted(allowed))}",
            reason="SCOPE_UNKNOWN",
        )


def _checksum(body: str) -> str:
    value, digits = zlib.crc32(body.encode()), []
    for _ in range(6):
        value, digit = divmod(value, 62)
        digits.append(_BASE62[digit])
    return "".join(reversed(digits))


def _number(checksum: str) -> int:
    """What :func:`_checksum` wrote: every call reads it, so that no digit takes a step of Python's."""
    return sum(map(mul, _PLACES, map(_DIGITS.__getitem__, checksum)))


class Watched(Protocol):
    """A catalog that follows the registry."""

    @property
    def key_uses(self) -> dict[str, float]:
        """When keys were last used, in milliseconds since 1970, by id: what the registry was not told yet."""
        ...

    def usable_view(self) -> View:
        """The newest view. Raises Unavailable if there is none, or none new enough."""
        ...

    async def reach(self, sequence: int, call: Call) -> None:
        """Wait until the view holds `sequence`. Raises Unavailable if it takes too long."""
        ...


class CatalogAuthenticator:
    """Checks keys against the local view: no look-up elsewhere, so keys are checked while everything else is down."""

    def __init__(self, catalog: Watched, now_ms: Callable[[], float] = lambda: time.time() * 1000) -> None:
        self._catalog = catalog
        self._now_ms = now_ms

    async def authenticate(self, key: str, call: Call) -> Principal:
        """Who presents `key`.

        :raises Unauthenticated: `KEY_MALFORMED`, `KEY_UNKNOWN` (a wrong secret, a revoked key) or `KEY_EXPIRED`
        :raises Unavailable: if there is no catalog yet, or none as new as the call asks for
        """
        uid, secret_hash = parse(key)
        if wanted := call.text(SEQUENCE_HEADER):
            await self._catalog.reach(_sequence(wanted), call)
        found = self._catalog.usable_view().api_key(uid)
        if found is None or not hmac.compare_digest(found.secret_hash, secret_hash):
            raise Unauthenticated("this key is unknown, or was revoked", reason="KEY_UNKNOWN", key=uid)
        now_ms = self._now_ms()
        if found.expire_time_ms and found.expire_time_ms <= now_ms:
            raise Unauthenticated("this key has expired; ask for a new one", reason="KEY_EXPIRED", key=uid)
        self._catalog.key_uses[uid] = now_ms
        return Principal(uid, found.project, found.scopes, found.requests_per_minute)


def _sequence(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise Invalid(
            f"the header {SEQUENCE_HEADER} must be a number that a write answered with", reason="SEQUENCE_MALFORMED"
        )
    return int(text)
