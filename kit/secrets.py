"""Secrets at rest and in memory: sealed before they are stored, masked wherever they might be shown.

Each secret is encrypted with a data key of its own (AES-256-GCM); the data key is wrapped with AES-256-GCM under a
key-encryption key that only the services holding a :class:`Keyring` know. Rotation adds a key in front of the setting,
rewraps what is stored, then drops the old key; at every moment in between, everything can be opened.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kit.errors import Precondition

MASK = "<secret>"
"""What is shown in place of a secret."""

_VERSION = 1
_KEY_BYTES = 32
_NONCE_BYTES = 12
_TAG_BYTES = 16
_WRAPPED_KEY_BYTES = _NONCE_BYTES + _KEY_BYTES + _TAG_BYTES
_KEY_ID = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_KEY_ID_RULE = "1 to 63 lower-case letters, digits, '.', '_' and '-', not beginning with a sign"


class Secret:
    """Text that shows itself as `<secret>` everywhere; only :meth:`reveal` gives it out.

    Formatting and pickling yield the mask, so a secret that strays into a log, an event or a worker's argument list is
    lost instead of leaked. Equality takes the same time wherever two secrets of one length differ. Not hashable.

    :raises ValueError: if the text is not valid Unicode and so could never be sealed
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        # Asked of the characters, not of the codec: its error would carry the whole text along.
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise ValueError("a secret must be valid Unicode text")
        self._value = value

    def reveal(self) -> str:
        """The text itself. Every call is a place to review."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # type: ignore[assignment]  # how Python spells "not hashable"; typeshed has no form for it

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (MASK,)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


class Keyring:
    """Key-encryption keys by id: the first encrypts, all decrypt. Shows ids only."""

    __slots__ = ("_ciphers", "_current")

    def __init__(self, keys: dict[str, bytes]) -> None:
        """Made by :meth:`parse`; `keys` is ordered, not empty, and holds 32 bytes each."""
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._current = next(iter(keys))

    @classmethod
    def parse(cls, setting: str) -> Keyring:
        """Read `<key-id>:<base64 of 32 bytes>[,<key-id>:<…>]`; spaces around entries are ignored.

        :raises ValueError: one sentence that names the entry and what is wrong with it; it never repeats the setting,
            since a part in the wrong place may be a key
        """
        if not setting.strip():
            raise ValueError("the key-encryption keys are empty; expected <key-id>:<base64 of 32 bytes>")
        keys: dict[str, bytes] = {}
        for number, entry in enumerate(setting.split(","), start=1):
            key_id, colon, encoded = entry.strip().partition(":")
            where = f"entry {number} of the key-encryption keys"
            if not colon:
                raise ValueError(f"{where} has no ':' between key id and key")
            if not _KEY_ID.fullmatch(key_id):
                raise ValueError(f"the key id of {where} is not {_KEY_ID_RULE}")
            if key_id in keys:
                raise ValueError(f"the key id of {where} is the id of an earlier entry")
            key = _decode_key(encoded)
            if key is None:
                raise ValueError(f"the key of {where} is not base64")
            if len(key) != _KEY_BYTES:
                raise ValueError(f"the key of {where} has {len(key)} bytes instead of {_KEY_BYTES}")
            keys[key_id] = key
        return cls(keys)

    @staticmethod
    def generate_setting(key_id: str) -> str:
        """A setting with one new random key, for the first start or for the front of an existing setting.

        :raises ValueError: unless `key_id` has the form that :meth:`parse` accepts
        """
        if not _KEY_ID.fullmatch(key_id):
            raise ValueError(f"a key id is {_KEY_ID_RULE}")
        return f"{key_id}:{base64.b64encode(os.urandom(_KEY_BYTES)).decode()}"

    @property
    def current_key_id(self) -> str:
        """The key that encrypts; an envelope with another `key_id` is due for :func:`rewrap`."""
        return self._current

    @property
    def key_ids(self) -> tuple[str, ...]:
        """All ids, the encrypting one first."""
        return tuple(self._ciphers)

    def cipher(self, key_id: str) -> AESGCM:
        """:raises Precondition: `KEY_ENCRYPTION_KEY_UNKNOWN`"""
        try:
            return self._ciphers[key_id]
        except KeyError:
            raise Precondition(
                f"the key-encryption key {key_id!r} is not in this service's settings; add it, or set the secret again",
                reason="KEY_ENCRYPTION_KEY_UNKNOWN",
                key_id=key_id,
            ) from None

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._ciphers)})"


@dataclass(frozen=True, slots=True)
class Envelope:
    """A sealed secret, safe to store.

    As bytes, version 1::

        1 byte          format version, 1
        1 byte          n, length of the key id (1 to 63)
        n bytes         key id, ASCII
        12 + 48 bytes   nonce; data key under the key-encryption key, with its tag
        12 + m + 16     nonce; secret in UTF-8 (m bytes) under the data key, with its tag

    Both encryptions authenticate the version, the key id and the context, so an envelope moved to another resource, or
    relabelled, does not open.
    """

    key_id: str
    wrapped_key: bytes = field(repr=False)
    """Nonce and wrapped data key."""
    sealed: bytes = field(repr=False)
    """Nonce and encrypted secret."""

    def to_bytes(self) -> bytes:
        """The format above."""
        key_id = self.key_id.encode("ascii")
        return bytes((_VERSION, len(key_id))) + key_id + self.wrapped_key + self.sealed

    @classmethod
    def from_bytes(cls, data: bytes) -> Envelope:
        """The inverse of :meth:`to_bytes`. Checks the shape; only opening proves the content.

        :raises Precondition: `CREDENTIAL_UNREADABLE` when cut short, of an unknown version, or not an envelope
        """
        if len(data) < 2:
            raise _unreadable("is cut short")
        if data[0] != _VERSION:
            raise _unreadable(f"has format version {data[0]}, which this service does not know")
        wrapped_at = 2 + data[1]
        sealed_at = wrapped_at + _WRAPPED_KEY_BYTES
        if len(data) < sealed_at + _NONCE_BYTES + _TAG_BYTES:
            raise _unreadable("is cut short")
        key_id = data[2:wrapped_at].decode("ascii", "replace")
        if not _KEY_ID.fullmatch(key_id):
            raise _unreadable("names a malformed key id")
        return cls(key_id, data[wrapped_at:sealed_at], data[sealed_at:])


def seal(keyring: Keyring, plaintext: Secret, *, context: bytes) -> Envelope:
    """Encrypt under a fresh data key, wrapped with the keyring's first key.

    :param context: name of the resource that the secret belongs to; opening needs the same
    """
    key_id = keyring.current_key_id
    bound_to = _associated_data(key_id, context)
    data_key = os.urandom(_KEY_BYTES)
    return Envelope(
        key_id,
        _encrypt(keyring.cipher(key_id), data_key, bound_to),
        _encrypt(AESGCM(data_key), plaintext.reveal().encode(), bound_to),
    )


def open_envelope(keyring: Keyring, envelope: Envelope, *, context: bytes) -> Secret:
    """Decrypt what :func:`seal` made for the same context.

    :raises Precondition: `KEY_ENCRYPTION_KEY_UNKNOWN` when the keyring lacks the key; `CREDENTIAL_UNREADABLE` when the
        envelope was altered, belongs to another context or was made with another key of the same id
    """
    cipher = keyring.cipher(envelope.key_id)
    bound_to = _associated_data(envelope.key_id, context)
    try:
        data_key = AESGCM(_decrypt(cipher, envelope.wrapped_key, bound_to))
        return Secret(_decrypt(data_key, envelope.sealed, bound_to).decode())
    except (InvalidTag, ValueError):
        # ValueError: parts too short to hold a nonce and a tag, in an envelope not made by from_bytes.
        raise _unreadable("was altered, or belongs to another resource or key") from None


def rewrap(keyring: Keyring, envelope: Envelope, *, context: bytes) -> Envelope:
    """The same secret under the keyring's first key, with a fresh data key, so that the old key can be dropped.

    Opens the envelope first: a damaged one is refused instead of being carried on.

    :raises Precondition: as :func:`open_envelope`
    """
    return seal(keyring, open_envelope(keyring, envelope, context=context), context=context)


def redact(text: str, secrets: Iterable[Secret]) -> str:
    """`text` with every occurrence of every secret masked, overlapping ones as one.

    For text from outside that may quote what it was sent, such as a provider's error. Empty secrets are ignored.
    """
    spans: list[tuple[int, int]] = []
    for secret in secrets:
        value = secret.reveal()
        start = text.find(value) if value else -1
        while start >= 0:
            spans.append((start, start + len(value)))
            start = text.find(value, start + 1)
    if not spans:
        return text
    pieces: list[str] = []
    kept_to = 0
    for start, end in sorted(spans):
        if start >= kept_to:
            pieces += (text[kept_to:start], MASK)
        kept_to = max(kept_to, end)
    pieces.append(text[kept_to:])
    return "".join(pieces)


def _decode_key(encoded: str) -> bytes | None:
    """None for what is not base64. Not an error here: the decoder's would ride along as context, with the key in it."""
    try:
        return base64.b64decode(encoded, validate=True)
    except ValueError:
        return None


def _associated_data(key_id: str, context: bytes) -> bytes:
    encoded = key_id.encode("ascii")
    return bytes((_VERSION, len(encoded))) + encoded + context


def _encrypt(cipher: AESGCM, plaintext: bytes, bound_to: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plaintext, bound_to)


def _decrypt(cipher: AESGCM, sealed: bytes, bound_to: bytes) -> bytes:
    return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to)


def _unreadable(what: str) -> Precondition:
    return Precondition(f"the stored secret {what}; set it again", reason="CREDENTIAL_UNREADABLE")
