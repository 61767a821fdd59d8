from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from kit.shared_lru import SharedLru


def test_what_was_used_last_stays() -> None:
    kept: SharedLru[str, int] = SharedLru(max_bytes=2)
    kept.put("ada", "a", 1, size_bytes=1)
    kept.put("ada", "b", 2, size_bytes=1)
    assert kept.get("ada", "a") == 1
    kept.put("ada", "c", 3, size_bytes=1)
    assert [kept.get("ada", key) for key in "abc"] == [1, None, 3]


def test_who_holds_most_gives_way() -> None:
    kept: SharedLru[int, int] = SharedLru(max_bytes=10)
    kept.put("bob", 0, 0, size_bytes=2)
    for number in range(100):
        kept.put("ada", number, number, size_bytes=2)
    assert kept.get("bob", 0) == 0
    assert [number for number in range(100) if kept.get("ada", number) is not None] == [96, 97, 98, 99]


def test_owners_do_not_see_each_others() -> None:
    kept: SharedLru[str, int] = SharedLru(max_bytes=10)
    kept.put("ada", "a", 1, size_bytes=1)
    assert kept.get("bob", "a") is None


def test_the_newest_is_kept_whatever_its_size_and_replaces_its_like() -> None:
    kept: SharedLru[str, int] = SharedLru(max_bytes=10)
    kept.put("ada", "a", 1, size_bytes=5)
    kept.put("bob", "b", 2, size_bytes=50)
    assert (kept.get("ada", "a"), kept.get("bob", "b")) == (None, 2)
    kept.put("bob", "b", 3, size_bytes=1)
    kept.put("ada", "a", 4, size_bytes=9)
    assert (kept.get("ada", "a"), kept.get("bob", "b"), len(kept)) == (4, 3, 2)


@given(
    puts=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 60))),
    max_bytes=st.integers(1, 100),
)
def test_no_more_is_held_than_allowed_and_equal_shares_are_safe(
    puts: list[tuple[int, int, int]], max_bytes: int
) -> None:
    kept: SharedLru[int, tuple[int, int, int]] = SharedLru(max_bytes=max_bytes)
    for put in puts:
        owner, key, size_bytes = put
        before = {each: kept.get(f"{each[0]}", each[1]) for each in ((o, k) for o in range(4) for k in range(6))}
        kept.put(f"{owner}", key, put, size_bytes=size_bytes)
        after = {each: kept.get(f"{each[0]}", each[1]) for each in before}
        assert after[owner, key] == put
        held = {o: sum(found[2] for (who, _), found in after.items() if found and who == o) for o in range(4)}
        assert sum(held.values()) <= max_bytes or sum(found is not None for found in after.values()) == 1
        for other in set(range(4)) - {owner}:
            mine = [found for (who, _), found in before.items() if found and who == other]
            if sum(found[2] for found in mine) <= max_bytes / 4 and size_bytes <= max_bytes / 4:
                assert all(after[other, found[1]] == found for found in mine), "nobody below an equal share loses"
    assert len(kept) == sum(kept.get(f"{o}", k) is not None for o in range(4) for k in range(6))


def test_room_is_made_quickly_among_many_owners() -> None:
    kept: SharedLru[int, int] = SharedLru(max_bytes=10_000 * 7)
    for owner in range(10_000):
        kept.put(f"{owner}", 0, owner, size_bytes=7)
    begun = time.process_time()
    for number in range(100):
        kept.put("large", number, number, size_bytes=700)
    assert time.process_time() - begun < 0.5, "50 seconds if all were looked at for each that goes"
