"""YAML: what it means here, and what is refused with its line."""

from __future__ import annotations

import re
import time
from itertools import pairwise

import pytest

from cli.apply.text import MAX_BYTES, documents, value
from kit.errors import Invalid
from kit.json import dump


def read(text: str) -> list[object]:
    """The documents of a file."""
    return [node.plain() for node in documents(text.encode(), source="f.yaml")]


def refusal(data: str | bytes) -> str:
    """Why a file is refused."""
    with pytest.raises(Invalid) as refused:
        documents(data.encode() if isinstance(data, str) else data, source="f.yaml")
    assert refused.value.reason == "FILE_INVALID"
    return refused.value.message


def test_words_mean_what_yaml_1_2_says() -> None:
    [found] = read(
        "country: no\nswitch: on\nday: 2024-01-01\nnumber: 1.10\ntext: '1.10'\ntrue_one: true\nnothing: ~\n"
        "sum: 1e3\nfirst: 012\nmany: |\n  a\n  b\ntime: 12:30:00\n"
    )

    assert found == {
        "country": "no",
        "switch": "on",
        "day": "2024-01-01",
        "number": 1.1,
        "text": "1.10",
        "true_one": True,
        "nothing": None,
        "sum": 1000.0,
        "first": 12,
        "many": "a\nb\n",
        "time": "12:30:00",
    }


def test_empty_documents_are_left_out_and_json_is_yaml() -> None:
    assert read('---\n---\na: 1\n---\n{\n\t"b": [1, 2.5, null, true]\n}\n---\n') == [
        {"a": 1},
        {"b": [1, 2.5, None, True]},
    ]


def test_anchors_and_merges_stand_for_what_they_name() -> None:
    [found] = read("base: &base {model: m, weight: 1}\nfirst:\n  <<: *base\n  weight: 2\nsecond: *base\n")

    assert found == {
        "base": {"model": "m", "weight": 1},
        "first": {"weight": 2, "model": "m"},
        "second": {"model": "m", "weight": 1},
    }


def test_values_know_the_line_of_their_name() -> None:
    [node] = documents(b"a: 1\nb:\n  c:\n    - x\n", source="f.yaml")

    assert isinstance(node.value, dict)
    assert node.value["b"].where == "f.yaml:2"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\n\tb: 2\n", "f.yaml:2: a tab"),
        ("a:\n\t- 1\n", "f.yaml:2: a tab"),
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: 'a' stands in line 1"),
        ("a: &a [*a]\n", r"f.yaml:1: \*a stands for nothing"),
        ("a: !!python/object/apply:os.system [ls]\n", "f.yaml:1: the tag"),
        ("? [a]\n: b\n", "f.yaml:1: a name in a mapping must be a text"),
        ("a: b: c\n", "f.yaml:1: mapping values are not allowed"),
        ("a: [1\nb: 2\n", "f.yaml:2: while parsing a flow sequence"),
        ("a: x\nb: \x00\n", r"f.yaml:2: holds the control character U\+0000"),
        ("a: 1e999\n", "f.yaml:1: 1e999 is too large"),
        ("a: 1\n---\n<<: 3\nb: 4\n", "f.yaml:3: << merges mappings only"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, told: str) -> None:
    assert re.match(told, refusal(text))


@pytest.mark.parametrize("text", ["18446744073709551616", "-9223372036854775809"])
def test_whole_numbers_beyond_64_bits_are_read_as_json_reads_them(text: str) -> None:
    [found] = read(f"a: {text}")

    assert found == {"a": float(text)}
    assert value(f"a: {text}".encode(), source="f.yaml") == value(f'{{"a": {text}}}'.encode(), source="f.json")
    assert dump(found)


def test_text_that_is_not_utf_8_is_refused_with_its_line() -> None:
    assert refusal(b"a: 1\nb: \xff\n") == "f.yaml:2: is not UTF-8"


def test_files_and_what_aliases_unfold_to_are_bounded() -> None:
    names = "abcdefghi"
    bomb = "".join(f"{name}: &{name} [{', '.join(['*' + before] * 10)}]\n" for before, name in pairwise(names))
    chain = "a: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 400))
    began = time.monotonic()

    assert "at most" in refusal(b"#" * (MAX_BYTES + 1))
    assert "more than 100000 values" in refusal("a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + bomb)
    assert "deeper than 64" in refusal(chain)
    assert "deeper than 64" in refusal("[" * 200_000)
    assert "deeper than 64" in refusal("{a: " * 100_000)
    assert "deeper than 64" in refusal("- " * 100_000)
    assert time.monotonic() - began < 10
