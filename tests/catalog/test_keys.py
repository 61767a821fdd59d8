from __future__ import annotations

import statistics
import time
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog import keys
from catalog.keys import CatalogAuthenticator
from catalog.view import ApiKey, View
from kit.calls import Call, Method
from kit.errors import Invalid, Unauthenticated
from kit.telemetry import TraceContext

CALL = Call(Method("/s/M", "x"), {}, "test", 0.0, TraceContext("a" * 32, "b" * 16, False))


class FixedCatalog:
    """A peer's view, fixed; what it was asked to reach is kept."""

    def __init__(self, *api_keys: ApiKey) -> None:
        self.view = View().with_changes(1, [(f"api_key/{key.uid}", key) for key in api_keys])
        self.reached: list[int] = []
        self.key_uses: dict[str, float] = {}

    def usable_view(self) -> View:
        return self.view

    async def reach(self, sequence: int, call: Call) -> None:
        self.reached.append(sequence)


def _stored(key: keys.NewKey, *, expire_time_ms: int = 0) -> ApiKey:
    return ApiKey(key.uid, "prj_1", key.secret_hash, frozenset({"deployments:run"}), expire_time_ms)


async def test_a_known_key_is_its_principal() -> None:
    key = keys.new_key()

    principal = await CatalogAuthenticator(FixedCatalog(_stored(key))).authenticate(key.text, CALL)

    assert (principal.key_id, principal.tenant) == (key.uid, "prj_1")
    assert principal.scopes == {"deployments:run"}


async def test_a_check_that_succeeds_is_a_use_and_one_that_fails_is_none() -> None:
    known, expired, unknown = keys.new_key(), keys.new_key(), keys.new_key()
    catalog = FixedCatalog(_stored(known), _stored(expired, expire_time_ms=1000))
    times = iter([500.0, 2000.0, 3000.0])
    authenticator = CatalogAuthenticator(catalog, now_ms=lambda: next(times))

    await authenticator.authenticate(known.text, CALL)
    assert catalog.key_uses == {known.uid: 500.0}
    for key in (expired, unknown):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(key.text, CALL)
    await authenticator.authenticate(known.text, CALL)

    assert catalog.key_uses == {known.uid: 3000.0}


async def test_an_unknown_id_and_a_wrong_secret_look_the_same() -> None:
    known, other = keys.new_key(), keys.new_key()
    body = f"tk_{known.uid}_{other.text[16:59]}"
    forged = f"{body}_{keys._checksum(body)}"
    authenticator = CatalogAuthenticator(FixedCatalog(_stored(known)))

    for text in (other.text, forged):
        with pytest.raises(Unauthenticated) as failure:
            await authenticator.authenticate(text, CALL)
        assert failure.value.reason == "KEY_UNKNOWN"


async def test_an_expired_key_is_refused_from_that_very_moment() -> None:
    key = keys.new_key()
    catalog = FixedCatalog(_stored(key, expire_time_ms=1000))

    assert await CatalogAuthenticator(catalog, now_ms=lambda: 999).authenticate(key.text, CALL)
    with pytest.raises(Unauthenticated) as failure:
        await CatalogAuthenticator(catalog, now_ms=lambda: 1000).authenticate(key.text, CALL)
    assert failure.value.reason == "KEY_EXPIRED"


@given(st.integers(0, 68), st.characters(codec="ascii"))
def test_any_changed_character_is_noticed_without_a_look_up(place: int, character: str) -> None:
    text = keys.new_key().text
    place = min(place, len(text) - 1)
    if text[place] == character:
        return

    with pytest.raises(Unauthenticated) as failure:
        keys.parse(text[:place] + character + text[place + 1 :])

    assert failure.value.reason == "KEY_MALFORMED"


@pytest.mark.parametrize("text", ["", "tk_", "x" * 10_000, "tk_\n", "sk-proj-abc"])
def test_what_is_no_key_is_malformed(text: str) -> None:
    with pytest.raises(Unauthenticated):
        keys.parse(text)


def test_a_key_with_a_newline_behind_it_is_malformed() -> None:
    with pytest.raises(Unauthenticated):
        keys.parse(keys.new_key().text + "\n")


async def test_a_call_may_ask_for_a_view_as_new_as_its_own_write() -> None:
    key = keys.new_key()
    catalog = FixedCatalog(_stored(key))
    call = Call(CALL.method, {keys.SEQUENCE_HEADER: "41"}, "test", 0.0, CALL.trace)

    await CatalogAuthenticator(catalog).authenticate(key.text, call)

    assert catalog.reached == [41]


@pytest.mark.parametrize("text", ["x", "-1", "1" * 19, "٣", "1.0"])
async def test_a_sequence_that_is_no_number_is_refused(text: str) -> None:
    call = Call(CALL.method, {keys.SEQUENCE_HEADER: text}, "test", 0.0, CALL.trace)

    with pytest.raises(Invalid) as failure:
        await CatalogAuthenticator(FixedCatalog()).authenticate(keys.new_key().text, call)

    assert failure.value.reason == "SEQUENCE_MALFORMED"


def test_keys_of_a_project_hold_project_scopes_only() -> None:
    keys.check_scopes(frozenset({"predict", "keys:admin"}), platform=False)
    keys.check_scopes(frozenset({"platform:admin", "predict"}), platform=True)
    with pytest.raises(Invalid) as failure:
        keys.check_scopes(frozenset({"platform:admin"}), platform=False)
    assert failure.value.reason == "SCOPE_UNKNOWN"


def test_parsing_a_key_takes_microseconds() -> None:
    text = keys.new_key().text

    assert min(timeit.repeat(lambda: keys.parse(text), number=1000, repeat=5)) / 1000 < 20e-6


async def test_checking_a_key_takes_microseconds() -> None:
    """Every call of every service begins with it."""
    stored = [keys.new_key() for _ in range(1000)]
    authenticator = CatalogAuthenticator(FixedCatalog(*(_stored(key) for key in stored)))
    took: list[int] = []
    for number in range(10_000):
        text = stored[number % len(stored)].text
        begun = time.perf_counter_ns()
        await authenticator.authenticate(text, CALL)
        took.append(time.perf_counter_ns() - begun)

    assert statistics.median(took) < 20_000
