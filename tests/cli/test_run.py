from __future__ import annotations

import json

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from cli.contexts import variables_json
from kit.json import parse_object


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("France", "France"),
        ("75001", 75001),
        ('"75001"', "75001"),
        ("1.50", 1.5),
        ("true", True),
        ("True", "True"),
        ("null", None),
        ("", ""),
        ("a=b", "a=b"),
        ('{"b": [1, 2]}', {"b": [1, 2]}),
        ("{b}", "{b}"),
        # Python's own parser takes these for numbers, but they are no JSON.
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("1e999", "1e999"),
        ("01", "01"),
        ("été", "été"),
        ("[" * 2000, "[" * 2000),
    ],
)
def test_json_is_taken_as_such_and_all_else_as_text(value: str, meant: object) -> None:
    assert json.loads(variables_json([f"name={value}"])) == {"name": meant}


def test_long_numbers_keep_their_digits() -> None:
    assert variables_json(["n=123456789012345678901234567890", "x=0.1000"]) == (
        '{"n":123456789012345678901234567890,"x":0.1000}'
    )


def test_of_a_repeated_name_the_last_counts() -> None:
    assert variables_json(["a=1", "b=2", "a=3"]) == '{"a":3,"b":2}'


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="="), min_size=1), st.text(st.characters(codec="utf-8"))
    )
)
def test_whatever_is_typed_makes_an_object_that_the_server_reads(typed: dict[str, str]) -> None:
    made = parse_object(variables_json([f"{name}={value}" for name, value in typed.items()]), field="variables")

    assert made.keys() == typed.keys()


@pytest.mark.parametrize("pair", ["name", "=value", ""])
def test_what_is_no_pair_is_refused(pair: str) -> None:
    with pytest.raises(typer.BadParameter, match="name=value") as refused:
        variables_json([pair])
    assert refused.value.param_hint == ("--variable", "-v")
