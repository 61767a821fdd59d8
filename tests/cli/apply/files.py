"""A file to apply, and what was shown and done."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from typer.testing import Result

Shop: TypeAlias = Callable[..., Result]

FILE = """\
kind: Provider
name: local
provider_kind: openai-compatible
base_url: {url}
---
kind: Prompt
name: welcome
description: How guests are greeted.
messages:
  - role: system
    content: |
      You greet guests from {{{{ country }}}}.
      Be brief.
---
kind: Deployment
name: guide
description: Travel advice.
variants:
  calm:
    prompt: welcome@1
    provider: local
    model: m
    weight: 90
    parameters: {{temperature: 0.3, stop: [END]}}
  lively:
    provider: local
    model: m
    weight: 10
    max_retries: 2
    attempt_timeout: 30s
    messages:
      - role: system
        content: You greet guests from {{{{ country }}}}, loudly.
"""
"""To be formatted with the `url` of the provider."""


def done(result: Result) -> str:
    """What was shown, if all went well."""
    assert result.exit_code == 0, result.stderr + result.stdout
    return result.stdout


def told(result: Result) -> str:
    """What was said about a failure."""
    assert result.exit_code == 1, result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr


def answer(shop: Shop, *arguments: str) -> Any:
    """The same as JSON."""
    return json.loads(done(shop("--json", *arguments)))


def written(tmp_path: Path, text: str, name: str = "guide.yaml") -> str:
    """A file in the folder in which the command runs, by its name."""
    (tmp_path / name).write_text(text)
    return name


def actions(shop: Shop, *arguments: str) -> dict[str, str]:
    """What apply would do to what."""
    found = answer(shop, "apply", *arguments, "--dry-run")
    return {f"{each['kind']} {each['name']}": each["action"] for each in found["resources"]}


def revisions(shop: Shop, deployment: str = "guide") -> list[str]:
    """Numbers, newest first."""
    return [each["number"] for each in answer(shop, "deployments", "history", deployment)]


def changed(text: str, before: str, after: str) -> str:
    """The file with one thing edited."""
    assert before in text
    return text.replace(before, after)
