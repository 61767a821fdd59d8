from __future__ import annotations

from pathlib import Path

import pytest
import typer

from cli.serving import Content
from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import deployment_pb2 as pb


def completion(prompt: str = "") -> pb.CompletionVariant:
    """What a variant runs, as an update reads it."""
    made = pb.CompletionVariant(prompt=prompt)
    version = made.new_version
    version.provider, version.model = "local", "m"
    version.parameters.temperature = 0.5
    version.parameters.stop.append("end")
    version.variables_schema_json = '{"type":"object"}'
    version.messages.add(role=message_pb2.ROLE_SYSTEM, content="Be brief.")
    version.messages.add(role=message_pb2.ROLE_USER, content="Hello")
    return made


def test_what_is_not_named_stays() -> None:
    made = completion()
    Content(model="n").fill(made)

    wanted = completion()
    wanted.new_version.model = "n"
    assert made == wanted


def test_messages_are_replaced_together_and_end_what_a_prompt_said(tmp_path: Path) -> None:
    made = completion("welcome@3")
    Content(user="Hi {{ guest }}").fill(made)

    assert [each.content for each in made.new_version.messages] == ["Hi {{ guest }}"]
    assert (made.prompt, made.new_version.variables_schema_json) == ("", "")
    file = tmp_path / "m.yaml"
    file.write_text("messages: [{role: user, content: 'In {{ city }}'}]\nvariables_schema: {type: object}\n")
    Content(file=file).fill(made)
    assert [each.content for each in made.new_version.messages] == ["In {{ city }}"]
    assert made.new_version.variables_schema_json == '{"type":"object"}'


def test_a_prompt_stays_the_source_and_brings_its_messages_itself() -> None:
    kept, changed = completion("welcome@3"), completion()
    Content(model="n").fill(kept)
    Content(prompt="welcome").fill(changed)

    assert (kept.prompt, changed.prompt) == ("welcome@3", "welcome")
    for made in (kept, changed):
        assert (len(made.new_version.messages), made.new_version.variables_schema_json) == (0, "")


def test_parameters_are_set_and_given_back_to_the_provider() -> None:
    made = completion()
    Content(parameters=["top_p=0.9", "stop=STOP", "seed=7", "temperature=", 'extra_json={"a": 1}']).fill(made)
    parameters = made.new_version.parameters

    assert (parameters.top_p, list(parameters.stop), parameters.seed) == (0.9, ["STOP"], 7)
    assert parameters.extra_json == '{"a": 1}'
    assert not parameters.HasField("temperature")
    Content(parameters=['stop=["a", "b"]'], temperature=1.5, max_output_tokens=9).fill(made)
    assert (list(parameters.stop), parameters.temperature, parameters.max_output_tokens) == (["a", "b"], 1.5, 9)


@pytest.mark.parametrize("text", ["top_p", "topp=1", "top_p=much", "seed=1.5", "=1"])
def test_a_parameter_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        Content(parameters=[text]).fill(completion())


def test_messages_in_two_ways_are_refused() -> None:
    for two in ({"prompt": "welcome", "system": "x"}, {"file": Path("x"), "user": "x"}):
        with pytest.raises(typer.BadParameter, match="not both"):
            Content(**two)
