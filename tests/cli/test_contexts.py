"""What `--context` amounts to."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
import typer
from typer.testing import Result

from catalog.conditions import MAX_CONTEXT_BYTES
from cli.contexts import context_json, many


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["country=ES", "age=17"], {"country": "ES", "age": 17}),
        (['zip="75001"', 'locale=["es", "ca"]', "vip=true"], {"zip": "75001", "locale": ["es", "ca"], "vip": True}),
        (['{"country": "ES", "age": 17}'], {"country": "ES", "age": 17}),
        ([' {"country": "ES"}', "country=MX", "of=a=b"], {"country": "MX", "of": "a=b"}),
        (["{}"], {}),
        (["empty="], {"empty": ""}),
    ],
)
def test_pairs_and_objects_are_one_context_and_of_a_repeated_name_the_last_counts(
    given: list[str], meant: dict[str, object]
) -> None:
    assert json.loads(context_json(given)) == meant


def test_without_any_there_is_none() -> None:
    assert context_json([]) == ""


def test_a_file_holds_one_and_pairs_go_over_it(tmp_path: Path) -> None:
    file = tmp_path / "call.json"
    file.write_text('{"country": "ES", "id": 9007199254740993}\n')

    assert context_json([f"@{file}", "country=MX"]) == '{"country":"MX","id":9007199254740993}'


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("country", "name=value"),
        ("=ES", "name=value"),
        ("{country: ES}", "not valid JSON"),
        ("@", "names no file"),
        ("@nowhere.json", "nowhere.json cannot be read: No such file or directory"),
        ('{"a": "' + "x" * MAX_CONTEXT_BYTES + '"}', "at most 16384 bytes"),
        ("a=" + "x" * MAX_CONTEXT_BYTES, "the context must be at most 16384 bytes"),
        ("a=" + "[" * 16 + "]" * 16, "the context must be nested at most 16 levels deep"),
        ('{"a": "\\u0000"}', "the context must not contain the NUL character"),
    ],
)
def test_what_is_none_is_refused_with_the_option_and_what_is_wrong(given: str, said: str) -> None:
    with pytest.raises(typer.BadParameter) as refused:
        context_json([given])

    assert said in refused.value.message
    assert refused.value.param_hint == ("--context", "-c")


def test_all_together_are_no_larger_than_a_call_may_have() -> None:
    half = "x" * (MAX_CONTEXT_BYTES // 2)

    with pytest.raises(typer.BadParameter, match="at most 16384 bytes"):
        context_json([f"a={half}", f"b={half}"])
    assert context_json([f"a={half}", f"a={half}"])


@pytest.mark.parametrize(
    "command", [("route", "guide"), ("simulate", "guide"), ("run", "guide", "Hola"), ("recommend", "movies", "42")]
)
@pytest.mark.parametrize(
    "given", [("-c", "x"), ("--context", "{x}"), ("-c", "@nowhere"), ("-c", "a=" + "[" * 16 + "]" * 16)]
)
def test_every_command_that_takes_one_names_the_option(
    turnout: Callable[..., Result], command: tuple[str, ...], given: tuple[str, str]
) -> None:
    shown = turnout(*command, *given, TURNOUT_ADDRESS="127.0.0.1:1", TURNOUT_PROJECT="shop")

    assert shown.exit_code == 2
    assert "Invalid value for '--context' / '-c': " in shown.stderr


@pytest.mark.parametrize("content", ['["ES"]', "5", "", "x" * (MAX_CONTEXT_BYTES + 1)])
def test_a_file_that_holds_none_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "call.json"
    file.write_text(content)

    with pytest.raises(typer.BadParameter):
        context_json([f"@{file}"])


def test_many_stand_in_a_file_one_a_line(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    file.write_bytes(b'{"country": "ES"}\n\n{"country": "FR", "age": 3}\r\n{}')

    assert [json.loads(each) for each in many(str(file), most=3)] == [
        {"country": "ES"},
        {"country": "FR", "age": 3},
        {},
    ]
    with pytest.raises(typer.BadParameter, match="more than 2 contexts"):
        many(str(file), most=2)


def test_many_come_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b'{"a":1}\n')))

    assert many("-", most=9) == ['{"a":1}']


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"a": 1}\n{"a": \n', "calls.jsonl:2"),
        ('{"a": 1}\n\n[1]\n', "calls.jsonl:3"),
        ("\n", "has no context in it"),
        ('{"a": 1}\n{"a": ' + "[" * 16 + "]" * 16 + "}", "calls.jsonl:2 must be nested at most 16 levels deep"),
    ],
)
def test_a_line_that_is_none_is_told(content: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("calls.jsonl").write_text(content)

    with pytest.raises(typer.BadParameter) as refused:
        many("calls.jsonl", most=9)

    assert said in refused.value.message
    assert refused.value.param_hint == ("--contexts",)
