"""What the registry uses of the world outside: key-encryption keys, and the rule for where calls may go."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kit.egress import EgressPolicy
from kit.egress import check_url as check_egress_url
from kit.errors import Invalid, Precondition
from kit.secrets import Envelope, Keyring, Secret, open_envelope, rewrap, seal
from services.registry.domain import violated


@dataclass(frozen=True, slots=True)
class KeyringVault:
    """The Vault port on a keyring; without one, credentials are refused."""

    keyring: Keyring | None

    def seal(self, credential: Secret, *, provider: str) -> bytes:
        """:raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`"""
        return seal(self._keys(), credential, context=provider.encode()).to_bytes()

    def open(self, envelope: bytes, *, provider: str) -> Secret:
        """The credential.

        :raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`, `KEY_ENCRYPTION_KEY_UNKNOWN`, `CREDENTIAL_UNREADABLE`
        """
        return open_envelope(self._keys(), Envelope.from_bytes(envelope), context=provider.encode())

    def key_id(self) -> str:
        """:raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`"""
        return self._keys().current_key_id

    def heading(self) -> bytes:
        """:raises Precondition: `KEY_ENCRYPTION_KEY_MISSING`"""
        return Envelope(self.key_id(), b"", b"").to_bytes()

    def sealed_anew(self, envelope: bytes, *, provider: str) -> bytes:
        """:raises Precondition: as :meth:`open`"""
        return rewrap(self._keys(), Envelope.from_bytes(envelope), context=provider.encode()).to_bytes()

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
        """:raises Invalid: `EGRESS_URL_INVALID`, naming the setting where it would allow the URL"""
        try:
            check_egress_url(url, self.policy, field=field)
        except Invalid as error:
            if not _permits(replace(self.policy, allow_private=True), url):
                raise
            message = f"{error.violations[0].message}; TURNOUT_EGRESS_ALLOW_PRIVATE=true would allow it"
            raise violated(error.reason, field, message) from None


def _permits(policy: EgressPolicy, url: str) -> bool:
    try:
        check_egress_url(url, policy)
    except Invalid:
        return False
    return True
