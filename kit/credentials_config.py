"""Settings of stored credentials, the same in every service that seals or opens them."""

from __future__ import annotations

from pydantic import SecretStr

from kit.config import Settings, settings_config


class CredentialsConfig(Settings):
    """The keys under which providers' credentials are encrypted."""

    model_config = settings_config("TURNOUT_")

    key_encryption_keys: SecretStr = SecretStr("")
    """`<key-id>:<base64 of 32 bytes>[,…]`, the encrypting one first; the form of :class:`kit.secrets.Keyring`."""
