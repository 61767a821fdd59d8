from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from catalog.sharded import Sharded

CHANGES = st.lists(st.tuples(st.integers(0, 5000), st.none() | st.integers()), max_size=60)


@given(st.lists(CHANGES, max_size=6))
def test_any_changes_lead_to_what_a_dict_would_hold_and_earlier_copies_stay_as_they_were(
    batches: list[list[tuple[int, int | None]]],
) -> None:
    plain: dict[int, int] = {}
    sharded: Sharded[int, int] = Sharded()
    history = [(sharded, plain.copy())]
    for batch in batches:
        edit = sharded.edit()
        for key, value in batch:
            if value is None:
                assert edit.pop(key) == plain.pop(key, None)
            else:
                edit[key] = plain[key] = value
        sharded = edit.done()
        history.append((sharded, plain.copy()))
    for copy, expected in history:
        assert dict(copy) == expected
        assert copy == Sharded() if not expected else copy == expected
        assert len(copy) == len(expected)
        for key in (*expected, -1):
            assert copy.get(key) == expected.get(key)
            assert (key in copy) == (key in expected)
