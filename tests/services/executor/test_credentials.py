from __future__ import annotations

import pytest

from catalog.view import Credential
from kit.errors import Precondition
from kit.secrets import Keyring, Secret, seal
from services.executor.credentials import OpenedCredentials

KEYRING = Keyring.parse(Keyring.generate_setting("one"))


def sealed(text: str = "sk-1", provider: str = "prv_1", keyring: Keyring = KEYRING) -> Credential:
    return Credential(provider, seal(keyring, Secret(text), context=provider.encode()).to_bytes())


def test_a_credential_opens_once() -> None:
    opened, credential = OpenedCredentials(KEYRING), sealed()
    first = opened.open(credential)
    assert first.reveal() == "sk-1"
    assert opened.open(credential) is first


def test_a_new_credential_takes_the_old_ones_place() -> None:
    opened = OpenedCredentials(KEYRING)
    assert [opened.open(sealed(text)).reveal() for text in ("sk-1", "sk-2")] == ["sk-1", "sk-2"]


def refusal(opened: OpenedCredentials, credential: Credential) -> str:
    with pytest.raises(Precondition) as failure:
        opened.open(credential)
    return failure.value.reason


def test_what_cannot_be_opened_says_why() -> None:
    other = Keyring.parse(Keyring.generate_setting("two"))
    good = sealed()
    damaged = Credential("prv_1", good.envelope[:-1] + bytes([good.envelope[-1] ^ 1]))
    assert refusal(OpenedCredentials(None), good) == "KEY_ENCRYPTION_KEY_UNKNOWN"
    assert refusal(OpenedCredentials(other), good) == "KEY_ENCRYPTION_KEY_UNKNOWN"
    assert refusal(OpenedCredentials(KEYRING), damaged) == "CREDENTIAL_UNREADABLE"
    assert refusal(OpenedCredentials(KEYRING), Credential("prv_1", b"")) == "CREDENTIAL_UNREADABLE"


def test_a_credential_moved_to_another_provider_does_not_open_even_if_it_was_opened_before() -> None:
    opened, good = OpenedCredentials(KEYRING), sealed()
    opened.open(good)
    assert refusal(opened, Credential("prv_2", good.envelope)) == "CREDENTIAL_UNREADABLE"
