"""What files may declare, and how what they may not is told."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from cli.apply.contents import (
    completion,
    message_documents,
    messages,
    model_facts,
    model_facts_documents,
    trying,
    version,
    version_document,
)
from cli.apply.documents import Kind, read
from kit.errors import Invalid

GOOD = """\
kind: Deployment
name: guide
variants:
  calm: {provider: local, model: m, attempt_timeout: 1.5m, weight: 33.5}
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    """All that is wrong with a file."""
    file = tmp_path / "f.yaml"
    file.write_text(text)
    with pytest.raises(Invalid) as refused:
        read([str(file)])
    return [f"{each.field} {each.message}".removeprefix(f"{tmp_path}/") for each in refused.value.violations]


def variant(fields: str) -> str:
    """A deployment with one variant, which begins in line 4."""
    return f"kind: Deployment\nname: guide\nvariants:\n  calm: {{{fields}}}\n"


def test_documents_of_files_and_folders_come_in_the_order_in_which_they_are_applied(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "c.yaml").write_text("not: ours")
    (tmp_path / "b" / "a.yml").write_text(GOOD)
    (tmp_path / "notes.md").write_text("not ours")
    (tmp_path / "z.yaml").write_text(
        "kind: Prompt\nname: p\nmessages: [{role: user, content: hi}]\n---\n"
        "kind: Provider\nname: local\nprovider_kind: openai\n"
    )

    found = read([str(tmp_path)])

    assert [(each.kind, each.name) for each in found] == [
        (Kind.PROVIDER, "local"),
        (Kind.PROMPT, "p"),
        (Kind.DEPLOYMENT, "guide"),
    ]
    assert found[2].where == f"{tmp_path}/b/a.yml:1"
    assert found[2].fields["variants"] == {
        "calm": {"provider": "local", "model": "m", "attempt_timeout": 90, "weight": 33.5}
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- 1", "f.yaml:1 a document must be a mapping"),
        ("kind: Service\nname: x", "f.yaml:1 kind must be one of Provider, Prompt, Deployment"),
        ("name: x", "f.yaml:1 kind must be one of"),
        ("kind: Deployment", "f.yaml:1 name is missing"),
        ("kind: Deployment\nname: UPPER", "f.yaml:2 name must be 1 to 63"),
        ("kind: Deployment\nname: 12", "f.yaml:2 name must be a text, not a number: put it in quotes"),
        ("kind: Deployment\nname: guide\nwieght: 3", "f.yaml:3 wieght is not a field here; there are display_name,"),
        ("kind: Deployment\nname: guide\nprotected: yes", "f.yaml:3 protected must be true or false"),
        ("kind: Deployment\nname: guide\naliases: {staging: 1.10}", "f.yaml:3 aliases.staging must be a text"),
        ('kind: Deployment\nname: guide\naliases: {live: "1.1"}', "f.yaml:3 aliases.live must be .* not live"),
        ("kind: Deployment\nname: guide\nvariants: [1]", "f.yaml:3 variants must be a mapping by name, not a list"),
        (variant("model: m"), "f.yaml:4 variants.calm.provider is missing"),
        (variant("provider: p, model: m, weight: 101"), "f.yaml:4 variants.calm.weight must be a number from 0 to 100"),
        (variant("provider: p, model: m, weight: true"), "f.yaml:4 variants.calm.weight must be a number"),
        (
            variant("provider: p, model: m, max_retries: 1.5"),
            "f.yaml:4 .*max_retries must be a whole number from 0 to 10",
        ),
        (
            variant("provider: p, model: m, attempt_timeout: 30"),
            "f.yaml:4 .*attempt_timeout must be a time such as 30s",
        ),
        (
            variant("provider: p, model: m, fallbacks: [{provider: q}]"),
            r"f.yaml:4 variants.calm.fallbacks\[0\].model is missing",
        ),
        (
            variant("provider: p, model: m, retry_statuses: [399]"),
            r"f.yaml:4 .*retry_statuses\[0\] must be a whole number from 400 to 599",
        ),
        (
            variant("provider: p, model: m, output_policy: shrug"),
            "f.yaml:4 .*output_policy must be one of mark, retry, fail",
        ),
        (
            variant("recommendation: {model: 1}, fallbacks: []"),
            "f.yaml:4 variants.calm.fallbacks belongs to completions",
        ),
        (
            "kind: Provider\nname: p\nprovider_kind: openai\nmodel_facts:\n- {model: m, context_window_tokens: 0.5}",
            r"f.yaml:5 model_facts\[0\].context_window_tokens must be a whole number",
        ),
        (
            variant("provider: p, model: m, parameters: {temprature: 1}"),
            "f.yaml:4 .*parameters.temprature is not a field",
        ),
        (
            variant("provider: p, model: m, tools: [x]"),
            r"f.yaml:4 variants.calm.tools\[0\] must be a mapping, not a text",
        ),
        (variant("provider: p, model: m, messages: [{role: bot}]"), r"f.yaml:4 .*messages\[0\].role must be one of"),
        (variant("provider: p, model: m, prompt: w@0"), "f.yaml:4 variants.calm.prompt must be a prompt's name"),
        (variant("provider: p, model: m, prompt: w@1234567890"), "f.yaml:4 variants.calm.prompt must be a prompt's"),
        (variant("provider: p, model: m, prompt: w, messages: []"), "f.yaml:4 .*messages says what `prompt` says"),
        (variant("version: ver_x, model: m"), "f.yaml:4 variants.calm.model says what `version` says"),
        (variant("recommendation: {model: 1}, model: m"), "f.yaml:4 variants.calm.model belongs to completions"),
        (f"{GOOD}  best: {{recommendation: {{model: 1}}}}", "f.yaml:3 variants must be all completions"),
        (f"{GOOD}---\n{GOOD}", "f.yaml:6 name the deployment guide stands in .*f.yaml:1 already"),
        ("kind: Provider\nname: p\nprovider_kind: openai\ncredential: sk", "f.yaml:4 credential is not a field here"),
        ("kind: Prompt\nname: p", "f.yaml:1 messages is missing"),
    ],
)
def test_what_is_wrong_is_told_with_file_line_and_path(tmp_path: Path, text: str, told: str) -> None:
    [problem] = problems(tmp_path, text)

    assert re.match(told, problem), problem


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    text = "kind: Deployment\nname: X\nsalt: 3\nvariants:\n  a: {provider: p}\n  b:\n    - x\n"

    assert [each.split()[0] for each in problems(tmp_path, text)] == ["f.yaml:2", "f.yaml:3", "f.yaml:6", "f.yaml:5"]


def test_files_that_cannot_be_read_are_told_together_with_what_is_wrong_in_others(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: [\n")
    (tmp_path / "b.yaml").write_text("kind: Deployment\n")
    (tmp_path / "c.yaml").write_text("a: 1\na: 2\n")
    (tmp_path / "d.yaml").symlink_to("gone.yaml")
    os.mkfifo(tmp_path / "e.yaml")
    (tmp_path / "f.yaml").write_bytes(b"#" * 3_000_000)

    with pytest.raises(Invalid) as refused:
        read([str(tmp_path), str(tmp_path / "nope.yaml")])

    told = [f"{each.field} {each.message}".removeprefix(f"{tmp_path}/") for each in refused.value.violations]
    assert refused.value.message == "nothing was applied: 7 problems"
    assert told[1:] == [
        "b.yaml:1 name is missing",
        "c.yaml:2 'a' stands in line 1 already",
        "d.yaml is a link to gone.yaml, which there is not",
        "e.yaml is no regular file, though it is named as one",
        "f.yaml is too large: at most 1,048,576 bytes are read",
        "nope.yaml No such file or directory",
    ]
    assert told[0].startswith("a.yaml:")


def test_an_empty_name_is_not_the_whole_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f.yaml").write_text(GOOD)

    with pytest.raises(Invalid, match="-f names no file"):
        read([""])


def test_files_that_are_not_there_or_hold_nothing_are_told(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    (tmp_path / "folder").mkdir()
    for name, reason in (
        ("nope.yaml", "FILE_NOT_FOUND"),
        ("folder", "FILE_NOT_FOUND"),
        ("empty.yaml", "NOTHING_TO_APPLY"),
    ):
        with pytest.raises(Invalid) as refused:
            read([str(tmp_path / name)])
        assert refused.value.reason == reason
        assert name in refused.value.message


def test_what_a_variant_runs_reads_as_it_was_written() -> None:
    fields = {
        "provider": "local",
        "model": "m",
        "messages": [
            {"role": "system", "content": "On {{ country }}."},
            {"role": "user", "parts": [{"text": "see"}, {"image": {"url": "https://x/y.png", "detail": "low"}}]},
            {"role": "assistant", "tool_calls": [{"id": "1", "tool": "find", "arguments_json": "{}"}]},
            {"role": "tool", "content": "7", "tool_call_id": "1"},
        ],
        "tools": [{"type": "function", "function": {"name": "find", "parameters": {"enum": ["no", "1e5", 3]}}}],
        "tool_choice": "auto",
        "response_format": {"type": "json_object"},
        "variables_schema": {"type": "object", "properties": {"country": {"type": "string"}}},
        "parameters": {
            "temperature": 0,
            "top_k": 3,
            "stop": ["a"],
            "seed": 2**62,
            "parallel_tool_calls": False,
            "reasoning_effort": "low",
            "extra": {"x": [1, None]},
        },
    }

    proto = version(fields)

    assert version_document(proto) == fields
    assert message_documents(messages(fields["messages"])) == fields["messages"]
    assert version_document(proto, prompt="p@1").keys() == fields.keys() - {"messages", "variables_schema"} | {"prompt"}


def test_how_hard_a_variant_tries_reads_as_it_was_written() -> None:
    fields: dict[str, Any] = {
        "max_retries": 2,
        "attempt_timeout": "30s",
        "first_token_timeout": "0.5s",
        "idle_timeout": "5s",
        "fallbacks": [
            {"provider": "p", "model": "m"},
            {"provider": "q", "model": "n", "parameters": {}, "max_retries": 1, "attempt_timeout": "1.5s"},
            {"provider": "q", "model": "o", "parameters": {"temperature": 0, "extra": {"x": 1}}},
        ],
        "retry_statuses": [429, 503],
        "output_policy": "retry",
    }
    seconds = {name: float(fields[name][:-1]) for name in ("attempt_timeout", "first_token_timeout", "idle_timeout")}
    fallbacks = [dict(each) for each in fields["fallbacks"]]
    fallbacks[1]["attempt_timeout"] = 1.5

    read = completion({**fields, **seconds, "fallbacks": fallbacks, "version": "ver_x"}, prompt="")

    assert trying(read) == fields
    assert trying(completion({"version": "ver_x", "output_policy": "mark"}, prompt="")) == {}


def test_facts_of_models_read_as_they_were_written() -> None:
    documents: list[dict[str, Any]] = [
        {"model": "a", "input_usd_micros_per_million": 0, "context_window_tokens": 8},
        {"model": "b"},
        {"model": "c", "structured_output": "json_object"},
    ]

    assert model_facts_documents(model_facts(documents)) == documents
