"""Secrets: sealed ones open only where they belong, and none of them ever shows."""

from __future__ import annotations

import base64
import copy
import json
import pickle

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import AppError, Precondition
from kit.secrets import MASK, Envelope, Keyring, Secret, open_envelope, redact, rewrap, seal

CONTEXT = b"projects/shop/providers/openai"
OLD, NEW = Keyring.generate_setting("k1"), Keyring.generate_setting("k2")
KEYRING = Keyring.parse(OLD)
KEY = base64.b64encode(bytes(range(32))).decode()

texts = st.text(st.characters(codec="utf-8"))


def show(error: BaseException) -> str:
    """What a log could hold of a failure, its hidden context included."""
    seen = repr(error) + str(error) + repr(error.args) + repr(vars(error))
    return seen + (show(error.__context__) if error.__context__ else "")


def test_a_secret_shows_only_its_mask() -> None:
    secret = Secret("sk-live-1")

    assert repr(secret) == str(secret) == f"{secret}" == f"{secret!r}" == MASK
    assert f"{secret:>10}" == "  <secret>"
    assert repr([secret, {"key": secret}]) == "[<secret>, {'key': <secret>}]"
    assert secret.reveal() == "sk-live-1"
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_holds_the_mask_and_not_the_secret(protocol: int) -> None:
    pickled = pickle.dumps({"key": Secret("sk-live-1")}, protocol)

    assert b"sk-live" not in pickled
    assert pickle.loads(pickled) == {"key": MASK}


def test_json_never_holds_a_secret() -> None:
    secret = Secret("sk-live-1")

    assert json.dumps({"key": secret}, default=str) == '{"key": "<secret>"}'
    assert orjson.dumps({"key": secret}, default=str) == b'{"key":"<secret>"}'
    with pytest.raises(TypeError):
        orjson.dumps(secret)


def test_copies_of_a_secret_keep_it() -> None:
    secret = Secret("sk-live-1")

    assert copy.copy(secret) is secret
    assert copy.deepcopy({"key": secret})["key"].reveal() == "sk-live-1"


def test_secrets_are_equal_by_content_and_unequal_to_their_text() -> None:
    assert Secret("é") == Secret("é")
    assert Secret("a") != Secret("b")
    assert Secret("a") != Secret("aa")
    assert Secret("a") != "a"


def test_text_that_is_not_unicode_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="valid Unicode") as failure:
        Secret("sk-live-\ud800")

    assert "sk-live" not in show(failure.value)


@given(texts, st.binary(max_size=64))
def test_what_is_sealed_opens_again_also_through_bytes(plaintext: str, context: bytes) -> None:
    envelope = seal(KEYRING, Secret(plaintext), context=context)

    restored = Envelope.from_bytes(envelope.to_bytes())

    assert restored == envelope
    assert restored.key_id == "k1"
    assert open_envelope(KEYRING, restored, context=context).reveal() == plaintext


def test_sealing_twice_never_repeats_a_data_key_or_a_nonce() -> None:
    first, second = (seal(KEYRING, Secret("sk-live-1"), context=CONTEXT) for _ in range(2))

    assert first.wrapped_key[:12] != second.wrapped_key[:12]
    assert first.wrapped_key[12:] != second.wrapped_key[12:]
    assert first.sealed != second.sealed


@given(st.data())
def test_any_flipped_bit_makes_an_envelope_unreadable(data: st.DataObject) -> None:
    sealed = bytearray(seal(KEYRING, Secret("sk-live-1"), context=CONTEXT).to_bytes())
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(Precondition) as failure:
        open_envelope(KEYRING, Envelope.from_bytes(bytes(sealed)), context=CONTEXT)

    assert failure.value.reason in {"CREDENTIAL_UNREADABLE", "KEY_ENCRYPTION_KEY_UNKNOWN"}
    assert "sk-live" not in show(failure.value)


def test_every_truncation_is_unreadable() -> None:
    sealed = seal(KEYRING, Secret("sk-live-1"), context=CONTEXT).to_bytes()

    for length in range(len(sealed)):
        with pytest.raises(Precondition) as failure:
            open_envelope(KEYRING, Envelope.from_bytes(sealed[:length]), context=CONTEXT)
        assert failure.value.reason == "CREDENTIAL_UNREADABLE"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_never_more_than_unreadable(data: bytes) -> None:
    with pytest.raises(Precondition):
        open_envelope(KEYRING, Envelope.from_bytes(data), context=CONTEXT)


def test_an_envelope_with_parts_too_short_is_unreadable() -> None:
    with pytest.raises(Precondition) as failure:
        open_envelope(KEYRING, Envelope("k1", b"", b""), context=CONTEXT)

    assert failure.value.reason == "CREDENTIAL_UNREADABLE"


def test_an_unknown_format_version_is_named() -> None:
    sealed = bytearray(seal(KEYRING, Secret("sk-live-1"), context=CONTEXT).to_bytes())
    sealed[0] = 2

    with pytest.raises(Precondition, match="version 2") as failure:
        Envelope.from_bytes(bytes(sealed))

    assert failure.value.reason == "CREDENTIAL_UNREADABLE"


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_an_envelope_opens_in_its_own_context_only(context: bytes, other: bytes) -> None:
    envelope = seal(KEYRING, Secret("sk-live-1"), context=context)

    if context == other:
        assert open_envelope(KEYRING, envelope, context=other) == Secret("sk-live-1")
    else:
        with pytest.raises(Precondition) as failure:
            open_envelope(KEYRING, envelope, context=other)
        assert failure.value.reason == "CREDENTIAL_UNREADABLE"


def test_a_key_that_is_not_in_the_ring_is_named() -> None:
    envelope = seal(KEYRING, Secret("sk-live-1"), context=CONTEXT)

    with pytest.raises(AppError) as failure:
        open_envelope(Keyring.parse(NEW), envelope, context=CONTEXT)

    assert failure.value.reason == "KEY_ENCRYPTION_KEY_UNKNOWN"
    assert failure.value.metadata == {"key_id": "k1"}


def test_another_key_under_the_same_id_does_not_open() -> None:
    envelope = seal(KEYRING, Secret("sk-live-1"), context=CONTEXT)

    with pytest.raises(Precondition) as failure:
        open_envelope(Keyring.parse(Keyring.generate_setting("k1")), envelope, context=CONTEXT)

    assert failure.value.reason == "CREDENTIAL_UNREADABLE"


def test_an_envelope_relabelled_to_another_key_of_the_ring_does_not_open() -> None:
    material = OLD.partition(":")[2]
    ring = Keyring.parse(f"k1:{material},k2:{material}")
    envelope = seal(ring, Secret("sk-live-1"), context=CONTEXT)

    with pytest.raises(Precondition) as failure:
        open_envelope(ring, Envelope("k2", envelope.wrapped_key, envelope.sealed), context=CONTEXT)

    assert failure.value.reason == "CREDENTIAL_UNREADABLE"


def test_rotation_moves_a_secret_to_the_first_key_and_the_old_one_can_go() -> None:
    before = seal(KEYRING, Secret("sk-live-1"), context=CONTEXT)
    rotating = Keyring.parse(f"{NEW}, {OLD}")

    after = rewrap(rotating, before, context=CONTEXT)

    assert rotating.key_ids == ("k2", "k1")
    assert after.key_id == rotating.current_key_id == "k2"
    assert open_envelope(rotating, before, context=CONTEXT).reveal() == "sk-live-1"
    assert open_envelope(Keyring.parse(NEW), after, context=CONTEXT).reveal() == "sk-live-1"


def test_rotation_refuses_a_damaged_envelope() -> None:
    sealed = seal(KEYRING, Secret("sk-live-1"), context=CONTEXT)
    damaged = Envelope(sealed.key_id, sealed.wrapped_key, sealed.sealed[:-1] + bytes((sealed.sealed[-1] ^ 1,)))

    with pytest.raises(Precondition) as failure:
        rewrap(KEYRING, damaged, context=CONTEXT)

    assert failure.value.reason == "CREDENTIAL_UNREADABLE"


@pytest.mark.parametrize(
    ("setting", "wrong"),
    [
        ("", "empty"),
        ("  ", "empty"),
        (KEY, "entry 1 .* no ':'"),
        (f"k1:{KEY},", "entry 2 .* no ':'"),
        (f":{KEY}", "key id of entry 1"),
        (f"K1:{KEY}", "key id of entry 1"),
        (f"{KEY}:k1", "key id of entry 1"),
        (f"{'k' * 64}:{KEY}", "key id of entry 1"),
        (f"k1:{KEY},k1:{KEY}", "key id of entry 2 .* earlier entry"),
        (f"k1:{KEY}, k2:{KEY[:-3]}*==", "key of entry 2 .* not base64"),
        (f"k1:{KEY[:-4]}é===", "key of entry 1 .* not base64"),
        (f"k1:{base64.b64encode(bytes(range(31))).decode()}", "31 bytes instead of 32"),
        ("k1:", "0 bytes instead of 32"),
    ],
)
def test_a_bad_setting_is_explained_without_repeating_it(setting: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong) as failure:
        Keyring.parse(setting)

    assert KEY[:12] not in show(failure.value)


def test_a_generated_setting_is_accepted_and_never_the_same() -> None:
    assert Keyring.parse(Keyring.generate_setting("2026-11")).current_key_id == "2026-11"
    assert Keyring.generate_setting("k1") != Keyring.generate_setting("k1")
    with pytest.raises(ValueError, match="key id"):
        Keyring.generate_setting("a,b")


def test_a_keyring_and_an_envelope_show_ids_only() -> None:
    envelope = seal(KEYRING, Secret("sk-live-1"), context=CONTEXT)

    assert repr(Keyring.parse(f"{NEW},{OLD}")) == "Keyring(k2, k1)"
    assert repr(envelope) == "Envelope(key_id='k1')"


@given(st.text("abc ", max_size=40), st.lists(st.text("abc", min_size=1, max_size=4), max_size=4))
def test_redacted_text_holds_no_secret_and_keeps_the_rest(text: str, values: list[str]) -> None:
    masked = redact(text, [Secret(value) for value in values])

    # The mask has letters of the secrets in it, so it is looked past.
    pieces = masked.split(MASK)
    assert not any(value in piece for piece in pieces for value in values)
    if not any(value in text for value in values):
        assert masked == text


def test_overlapping_secrets_leave_no_remainder() -> None:
    assert redact("x abcd y", [Secret("abc"), Secret("bcd")]) == f"x {MASK} y"
    assert redact("aaa", [Secret("aa")]) == MASK
    assert redact("key sk-1, key sk-12", [Secret("sk-1"), Secret("sk-12"), Secret("")]) == f"key {MASK}, key {MASK}"
