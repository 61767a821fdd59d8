from __future__ import annotations

import pytest

from completions.chat import ToolCall
from services.executor.providers import transcript
from services.executor.providers.transcript import Transcript

WEATHER, CLOCK = ToolCall("", "weather", '{"c":"Paris"}'), ToolCall("", "clock", '{"z":"CET"}')
TALE = '{"a":"}{\\"é{","b":{"c":[{},{"d":"x"}]}}'


def heard(*pieces: tuple[int | None, str, str, str]) -> tuple[ToolCall, ...]:
    said = Transcript()
    for given, uid, tool, arguments in pieces:
        said.call(said.place(given, uid, tool, arguments), uid, tool, arguments)
    return said.message().tool_calls


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        pytest.param(
            [(0, "", "weather", '{"c":"Paris"}'), (0, "", "clock", '{"z":"CET"}')], [WEATHER, CLOCK], id="names"
        ),
        pytest.param(
            [(0, "", "weather", '{"c"'), (0, "", "", ':"Paris"}'), (0, "", "clock", ""), (0, "", "", '{"z":"CET"}')],
            [WEATHER, CLOCK],
            id="names in pieces",
        ),
        pytest.param(
            [(0, "0", "weather", '{"c":"Paris"}'), (0, "0", "clock", '{"z"'), (0, "0", "clock", ':"CET"}')],
            [ToolCall("0", "weather", '{"c":"Paris"}'), ToolCall("0", "clock", '{"z":"CET"}')],
            id="names with one id",
        ),
        pytest.param(
            [(0, "", "weather", ""), (0, "", "clock", "")],
            [ToolCall("", "weather", "{}"), ToolCall("", "clock", "{}")],
            id="names alone",
        ),
        pytest.param([(0, "", "clock", '{"z":"CET"}')] * 3, [CLOCK] * 3, id="one name, each whole"),
        pytest.param(
            [(0, "", "clock", '{"z":'), (0, "", "", '"CET"}'), (0, "", "clock", '{"z"'), (0, "", "", ':"CET"}')],
            [CLOCK] * 2,
            id="one name, each in pieces",
        ),
        pytest.param(
            [(0, "c1", "clock", ""), (0, "", "", '{"z":"CET"}'), (0, "c2", "clock", ""), (0, "", "", '{"z":"CET"}')],
            [ToolCall("c1", "clock", '{"z":"CET"}'), ToolCall("c2", "clock", '{"z":"CET"}')],
            id="one name, announced",
        ),
        pytest.param(
            [(0, "", "look", each) for each in ("", *TALE, "", " ")],
            [ToolCall("", "look", TALE + " ")],
            id="repeated name",
        ),
        pytest.param(
            [(0, f"c{at}", "look", each) for at, each in enumerate(("", *TALE))],
            [ToolCall("c0", "look", TALE)],
            id="repeated name, fresh ids",
        ),
        pytest.param(
            [(0, "", "look", each) for each in ('{"a":x', "{", '}{"b":1}', "{")],
            [ToolCall("", "look", '{"a":x{}{"b":1}{')],
            id="repeated name, no JSON",
        ),
        pytest.param(
            [(0, "", "look", '{"a":1}'), (0, "c1", "look", "")], [ToolCall("c1", "look", '{"a":1}')], id="late id"
        ),
        pytest.param(
            [(0, "", "weather", '{"c":"Paris"}'), (0, "", "clock", '["CET"]')],
            [WEATHER, ToolCall("", "clock", '["CET"]')],
            id="names, no objects",
        ),
        pytest.param(
            [(0, "", "weather", '{"c":'), (0, "", "clock", '"Paris"}')], [WEATHER], id="another name within an object"
        ),
        pytest.param(
            [(0, "c1", "", '{"z"'), (0, "c1", "clock", ':"CET"}')],
            [ToolCall("c1", "clock", '{"z":"CET"}')],
            id="late name",
        ),
        pytest.param(
            [(0, "c1", "clock", '{"z":"CET"}'), (0, "c2", "weather", '{"c":"Paris"}'), (0, "c1", "look", "")],
            [
                ToolCall("c1", "clock", '{"z":"CET"}'),
                ToolCall("c2", "weather", '{"c":"Paris"}'),
                ToolCall("c1", "look", "{}"),
            ],
            id="names with an id that comes again",
        ),
        pytest.param(
            [(0, "c1", "clock", ""), (1, "c2", "", '{"c":'), (0, "c2", "weather", '"Paris"}')],
            [ToolCall("c1", "clock", "{}"), ToolCall("c2", "weather", '{"c":"Paris"}')],
            id="late name elsewhere",
        ),
        pytest.param(
            [(0, "", "look", '{"a"'), (0, "", "look", '{"b"')],
            [ToolCall("", "look", '{"a"{"b"')],
            id="one name, not whole",
        ),
    ],
)
def test_calls_in_one_place_are_told_apart_by_their_names_and_by_where_their_arguments_end(
    calls: list[tuple[int, str, str, str]], expected: list[ToolCall]
) -> None:
    assert heard(*calls) == tuple(expected)


def test_how_often_arguments_are_read_again_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transcript, "_MAX_LOOKS", 2)
    pieces = [(0, "", "look", each) for each in ('{"a":"', "{", "{", '"}', '{"b":1}')]
    assert heard(*pieces[:2], *pieces[3:]) == (ToolCall("", "look", '{"a":"{"}'), ToolCall("", "look", '{"b":1}'))
    assert heard(*pieces) == (ToolCall("", "look", '{"a":"{{"}{"b":1}'),)


def test_of_an_ordinary_stream_no_arguments_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(transcript, "orjson")
    pieces = [
        (0, "c1", "clock", ""),
        (0, "", "", '{"z"'),
        (0, "", "", ':"CET"}'),
        (1, "c2", "weather", '{"c":"Paris"}'),
    ]
    assert heard(*pieces) == (
        ToolCall("c1", "clock", CLOCK.arguments_json),
        ToolCall("c2", "weather", WEATHER.arguments_json),
    )
