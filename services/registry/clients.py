"""What the registry uses of the world outside: key-encryption keys, and the rule for where calls may go."""

from __future__ import annotations

from dataclasses import dataclass

from kit.egress import EgressPolicy
from kit.egress import check_url as check_egress_url
from kit.errors import Precondition
from kit.secrets import Envelope, Keyring, Secret, open_envelope, seal


@dataclass(frozen=True, slots=True)
class KeyringVault:
    """The Vault port on a keyring; without one, credentials are refused."""

    keyring: Keyring | None

    def seal(self, credential: Secret, *, provider: str) -> bytes:
        """:raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`"""
        return seal(self._keys(), credential, context=provider.encode()).to_bytes()

    def holds(self, envelope: bytes, credential: Secret, *, provider: str) -> bool:
        """Whether the envelope holds this very credential.

        :raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`, `KEY_ENCRYPTION_KEY_UNKNOWN`, `CREDENTIAL_UNREADABLE`
        """
        return open_envelope(self._keys(), Envelope.from_bytes(envelope), context=provider.encode()) == credential

    def _keys(self) -> Keyring:
        if self.keyring is None:
            raise Precondition(
                "this installation cannot keep credentials yet: set TURNOUT_KEY_ENCRYPTION_KEYS to "
                "<key-id>:<base64 of 32 random bytes>, the same for registry and executor",
                reason="KEY_ENCRYPTION_KEY_MISSING",
            )
        return self.keyring


@dataclass(frozen=True, slots=True)
class EgressCheck:
    """The UrlCheck port on an egress policy."""

    policy: EgressPolicy

    def __call__(self, url: str, /, *, field: str) -> None:
        """:raises Invalid: `EGRESS_URL_INVALID`"""
        check_egress_url(url, self.policy, field=field)
