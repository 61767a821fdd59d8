"""`turnout prompts`, against a whole installation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

pytestmark = pytest.mark.slow


def done(result: Result) -> str:
    """What was shown, if all went well."""
    assert result.exit_code == 0, result.stderr
    return result.stdout


def told(result: Result, exit_code: int = 1) -> str:
    """What was said about a failure."""
    assert result.exit_code == exit_code, result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr


def answer(shop: Callable[..., Result], *arguments: str) -> Any:
    """The same as JSON."""
    return json.loads(done(shop("--json", *arguments)))


def test_a_prompt_is_made_shown_changed_rendered_and_archived(shop: Callable[..., Result]) -> None:
    made = done(shop("prompts", "create", "welcome", "--system", "Welcome to {{ hotel }}.", "--note", "first"))
    assert "--prompt welcome" in made
    changed = done(shop("prompts", "update", "welcome", "--system", "Hello at {{ hotel }}.", "--note", "[b]short[/b]"))
    assert changed.rstrip().endswith("/prompts/welcome: number 2")
    dry = done(shop("prompts", "update", "welcome", "--system", "No", "--dry-run"))
    assert "would be number 3" in dry

    assert answer(shop, "prompts", "show", "welcome@1")["messages"][0]["content"] == "Welcome to {{ hotel }}."
    shown = done(shop("prompts", "show", "welcome"))
    assert "system:\nHello at {{ hotel }}." in shown
    assert "[b]short[/b]" in shown
    lines = done(shop("prompts", "show", "welcome", "--numbers")).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["2", "1"]
    assert [each["note"] for each in answer(shop, "prompts", "show", "welcome", "--numbers")] == [
        "[b]short[/b]",
        "first",
    ]

    rendered = done(shop("prompts", "render", "welcome@1", "-v", "hotel=Astoria"))
    assert rendered == "\nsystem:\nWelcome to Astoria.\n"
    missing = told(shop("prompts", "render", "welcome"))
    assert "hotel" in missing
    assert "MISSING_VARIABLES" in missing
    assert "PROMPT_NOT_FOUND" in told(shop("prompts", "render", "welcome@9"))

    assert "archived" in done(shop("prompts", "archive", "welcome"))
    assert answer(shop, "prompts", "list") == []
    assert "welcome (archived)" in done(shop("prompts", "list", "--archived"))
    assert "PROMPT_ARCHIVED" in told(shop("prompts", "update", "welcome", "--system", "x"))
    assert "in use" in done(shop("prompts", "unarchive", "welcome"))
    assert [each["number"] for each in answer(shop, "prompts", "list")] == [2]


def test_a_prompt_goes_through_a_file_and_back_without_a_change(shop: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "messages:\n  - role: system\n    content: Hi {{ name }}\n  - {role: user, content: Go}\n"
        "variables_schema: {properties: {name: {type: string}}}\n"
    )
    made = answer(shop, "prompts", "create", "welcome", "--file", str(tmp_path / "a.yaml"))
    assert [each["role"] for each in made["messages"]] == ["ROLE_SYSTEM", "ROLE_USER"]

    (tmp_path / "b.json").write_text(done(shop("--json", "prompts", "show", "welcome")))
    assert answer(shop, "prompts", "update", "welcome", "-f", str(tmp_path / "b.json")) == made
    for wrong in (("--file", str(tmp_path / "none")), ("-f", str(tmp_path / "a.yaml"), "--system", "x"), ()):
        assert told(shop("prompts", "create", "other", *wrong), 2)


def test_a_deployment_is_made_from_a_prompt_and_moved_to_another_number(
    shop: Callable[..., Result], llm_url: str
) -> None:
    done(shop("providers", "create", "local", "--base-url", llm_url))
    done(shop("prompts", "create", "welcome", "--system", "Welcome to {{ hotel }}."))
    common = ("deployments", "create", "guests", "--provider", "local", "--model", "m", "--temperature", "0.5")
    assert "--prompt" in told(shop(*common, "--prompt", "welcome", "--system", "x"), 2)
    done(shop(*common, "--prompt", "welcome", "--retries", "4"))
    done(shop("prompts", "update", "welcome", "--system", "Hello at {{ hotel }}."))
    assert "from welcome@1" in done(shop("deployments", "show", "guests"))

    done(shop("deployments", "update", "guests", "variant-1", "--prompt", "welcome", "--weight", "50"))

    [variant] = answer(shop, "deployments", "show", "guests")["variants"]
    assert (variant["completion"]["prompt"], variant["weight"]) == ("welcome@2", 50)
    assert variant["completion"]["max_retries"] == 4
    differences = done(shop("deployments", "diff", "guests", "1.0"))
    assert 'completion.prompt changes from "welcome@1" to "welcome@2"' in differences
    assert "temperature" not in differences
    assert "PROMPT_IN_USE" in told(shop("prompts", "archive", "welcome"))
    assert "no variant nope" in told(shop("deployments", "update", "guests", "nope", "--prompt", "welcome"), 2)
