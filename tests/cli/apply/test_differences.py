"""In what documents differ."""

from __future__ import annotations

import pytest

from cli.apply.differences import ABSENT, Difference, as_json, differences, shown


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": 1}, {"a": True}, ["a: 1 → true"]),
        ({"a": False}, {"a": 0}, ["a: false → 0"]),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, ["a.b: 1 → 3", "a.c: 2 → nothing"]),
        ({"a": [{"x": 1}]}, {"a": [{"x": 1}, {"x": 2}]}, ["a[1].x: 2"]),
        ({"a": ["x", "y"]}, {"a": ["x"]}, ['a[1]: "y" → nothing']),
        ({"a": {}}, {"a": []}, ["a: {} → []"]),
        ({}, {"a": None}, ["a: null"]),
        ({"a": "x\ny\n"}, {"a": "x\nz\n"}, ["a:", "  @@ -1,2 +1,2 @@", "   x", "  -y", "  +z"]),
    ],
)
def test_differences_are_told_by_path(before: object, after: object, told: list[str]) -> None:
    assert [line.plain for each in differences(before, after) for line in shown(each)] == told


def test_a_side_that_is_not_there_is_left_out_for_programs() -> None:
    assert as_json(Difference("a", ABSENT, 1)) == {"path": "a", "after": 1}
    assert as_json(Difference("a", None, ABSENT)) == {"path": "a", "before": None}
