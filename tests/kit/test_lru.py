from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kit.lru import Lru


def test_what_was_used_last_stays() -> None:
    kept: Lru[str, int] = Lru(max_entries=2)
    for key in "ab":
        kept.put(key, ord(key))
    assert kept.get("a") == ord("a")

    kept.put("c", 0)

    assert [kept.get(key) for key in "abc"] == [ord("a"), None, 0]


def test_the_newest_is_kept_whatever_its_size() -> None:
    kept: Lru[str, str] = Lru(max_entries=10, max_bytes=10)
    kept.put("small", "x", size_bytes=3)
    kept.put("large", "y", size_bytes=30)

    assert (kept.get("small"), kept.get("large"), len(kept)) == (None, "y", 1)


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 9), st.booleans()), max_size=60),
    st.integers(1, 5),
    st.integers(0, 20),
)
def test_the_bounds_hold_and_the_last_used_are_there(
    steps: list[tuple[int, int, bool]], max_entries: int, max_bytes: int
) -> None:
    kept: Lru[int, int] = Lru(max_entries=max_entries, max_bytes=max_bytes)
    model: dict[int, int] = {}
    for key, size, is_put in steps:
        if is_put:
            kept.put(key, size, size_bytes=size)
            model.pop(key, None)
            model[key] = size
            while len(model) > 1 and (len(model) > max_entries or sum(model.values()) > max_bytes):
                del model[next(iter(model))]
        elif (found := kept.get(key)) is not None:
            assert found == model[key]
            model[key] = model.pop(key)
        else:
            assert key not in model
    assert len(kept) == len(model)
    assert all(kept.get(key) == size for key, size in list(model.items()))
