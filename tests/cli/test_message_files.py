from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer

from cli import message_files
from cli.apply.text import MAX_BYTES
from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import prompt_pb2

YAML = """
messages:
  - role: system
    content: |
      You are {{ role }}.
      Be brief.
  - role: user
    parts:
      - text: Look at this
      - image: {url: "https://example.com/{{ id }}.png"}
variables_schema:
  properties: {role: {type: string}}
"""


def filled(folder: Path, text: str | bytes) -> tuple[prompt_pb2.Prompt, list[str]]:
    file = folder / "messages"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    prompt = prompt_pb2.Prompt()
    return prompt, message_files.fill(prompt, file)


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    import yaml

    prompt, named = filled(tmp_path, YAML)

    assert named == ["messages", "variables_schema_json"]
    assert [each.role for each in prompt.messages] == [message_pb2.ROLE_SYSTEM, message_pb2.ROLE_USER]
    assert prompt.messages[0].content == "You are {{ role }}.\nBe brief.\n"
    assert prompt.messages[1].parts[1].image.url == "https://example.com/{{ id }}.png"
    assert orjson.loads(prompt.variables_schema_json) == {"properties": {"role": {"type": "string"}}}
    assert filled(tmp_path, json.dumps(yaml.safe_load(YAML))) == (prompt, named)


def test_plain_words_of_yaml_mean_what_they_mean_to_apply(tmp_path: Path) -> None:
    text = """\
messages:
  - {role: user, content: no}
  - {role: assistant, content: 2024-01-31}
variables_schema: {properties: {on: {const: off}, day: {const: 2024-01-31}, 1: {maximum: 99999999999999999999}}}
"""

    prompt, _ = filled(tmp_path, text)

    assert [each.content for each in prompt.messages] == ["no", "2024-01-31"]
    assert orjson.loads(prompt.variables_schema_json) == {
        "properties": {"on": {"const": "off"}, "day": {"const": "2024-01-31"}, "1": {"maximum": 1e20}}
    }


def test_json_is_read_by_its_own_rules(tmp_path: Path) -> None:
    prompt, _ = filled(tmp_path, '{\n\t"messages": [{"role": "ROLE_USER", "content": "\\ud83d\\ude00 \u2028\x7f"}]\n}')

    assert prompt.messages[0].content == "\U0001f600 \u2028\x7f"


def test_a_list_is_messages_alone(tmp_path: Path) -> None:
    prompt, named = filled(tmp_path, '[{"role": "developer", "content": "x"}]')

    assert (prompt.messages[0].role, named) == (message_pb2.ROLE_DEVELOPER, ["messages"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "list of messages"),
        ("just words", "list of messages"),
        ("{}", "list of messages"),
        ("[]", "at least one"),
        ("messages: {a: 1}", "at least one"),
        ("[1]", "messages[0]"),
        ("- {content: x}", "messages[0].role"),
        ("- {role: poet, content: x}", "messages[0].role"),
        ("- {role: unspecified, content: x}", "messages[0].role"),
        ("- {role: user, content: 1}", "messages[0]"),
        ("- {role: user, contents: x}", "messages[0]"),
        ("variables_schema_json: {a: 1}", "variables_schema"),
        ("a: [", "messages:2: while parsing"),
        (b"ok\n\xff\xfe\xfd", "messages:2: is not UTF-8"),
        ("[" * 100_000, "deeper than"),
        ("[" * 100 + "]" * 100, "at most 64 levels deep"),
        ("!!python/object/apply:os.system ['true']", "messages:1: the tag "),
        ("- {role: user, content: x}\n---\n- {role: user, content: y}", "messages:3: a second document"),
        ("messages: [{role: user, content: x}]\nvariables_schema: {? [a] : b}", "messages:2: a name in a mapping"),
        ("messages: [{role: user, content: x}]\nvariables_schema: {a: 1, a: 2}", "messages:2: 'a' stands in line 2"),
        (b"x" * (MAX_BYTES + 1), "at most"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_a_sentence(tmp_path: Path, text: Any, said: str) -> None:
    with pytest.raises(typer.BadParameter) as failure:
        filled(tmp_path, text)

    assert said in failure.value.message
