"""Providers' credentials, opened once and kept in memory."""

from __future__ import annotations

from typing import Final

from catalog import view
from kit.errors import Precondition
from kit.lru import Lru
from kit.secrets import Envelope, Keyring, Secret, open_envelope

_KEPT: Final = 4096


class OpenedCredentials:
    """An LRU of opened credentials, by ciphertext: a new credential is another ciphertext, so nothing here goes stale.

    :param keyring: None if this process was given no key
    """

    def __init__(self, keyring: Keyring | None) -> None:
        self._keyring = keyring
        self._kept: Lru[tuple[str, bytes], Secret] = Lru(max_entries=_KEPT)

    def open(self, credential: view.Credential) -> Secret:
        """The credential.

        :raises Precondition: `KEY_ENCRYPTION_KEY_UNKNOWN` or `CREDENTIAL_UNREADABLE`
        """
        key = (credential.provider, credential.envelope)
        secret = self._kept.get(key)
        if secret is None:
            secret = self._open(credential)
            self._kept.put(key, secret)
        return secret

    def _open(self, credential: view.Credential) -> Secret:
        envelope = Envelope.from_bytes(credential.envelope)
        if self._keyring is None:
            raise Precondition(
                "the provider has a credential, but this service has no key to open it; set the key-encryption keys",
                reason="KEY_ENCRYPTION_KEY_UNKNOWN",
                key_id=envelope.key_id,
            )
        return open_envelope(self._keyring, envelope, context=credential.provider.encode())
