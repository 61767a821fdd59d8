"""Contracts, checks and programs of deployments from the command line, against a whole installation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from stack.services import Installation

pytestmark = pytest.mark.slow

Shop = Callable[..., Result]
REPOSITORY = Path(__file__).resolve().parents[2]


def done(result: Result) -> str:
    """What was shown, if all went well."""
    assert result.exit_code == 0, result.stderr + result.stdout
    return result.stdout


def told(result: Result) -> str:
    """What was said about a failure."""
    assert result.exit_code == 1, result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr


@pytest.fixture
def guide(shop: Shop, llm_url: str, tmp_path: Path) -> str:
    """A deployment with two revisions: 2.0, a draft, takes another variable."""
    done(shop("providers", "create", "local", "--base-url", llm_url))
    words = ("--provider", "local", "--model", "m", "--system", "On {{ country }}.", "--skip-model-check")
    done(shop("deployments", "create", "guide", *words))
    message = "messages: [{role: user, content: 'In {{ city }}.'}]\n"
    (tmp_path / "p.yaml").write_text(f"kind: Prompt\nname: city\n{message}")
    done(shop("apply", "-f", "p.yaml", "--yes"))
    done(shop("deployments", "update", "guide", "variant-1", "--prompt", "city@1", "--draft"))
    return "guide"


def test_a_deployment_is_shown_with_what_its_callers_rely_on(shop: Shop, guide: str) -> None:
    shown = done(shop("deployments", "show", guide))

    assert "callers of live rely on" in shown
    assert "variables  country" in shown
    assert "answer     text" in shown


def test_a_deployment_is_shown_with_the_models_that_its_variants_run(shop: Shop, guide: str) -> None:
    [version] = json.loads(done(shop("--json", "deployments", "show", guide)))["versions"].items()

    assert version[1] == {"provider": "local", "model": "m"}
    shown = done(shop("deployments", "show", guide))
    assert f"local/m  {version[0]}" in " ".join(shown.split()).replace("local/m ", "local/m  ")


def test_an_alias_that_there_is_not_is_called_one(shop: Shop, guide: str) -> None:
    refused = told(shop("deployments", "show", f"{guide}:nope"))

    assert refused.startswith("there is no alias nope; there are live\n")
    contradiction = shop("deployments", "update", f"{guide}:staging", "variant-1", "--weight", "3", "--alias", "live")
    assert contradiction.exit_code == 2
    assert "the name says staging already" in contradiction.stderr


def test_a_check_tells_every_path_and_exits_with_1_where_callers_would_break(shop: Shop, guide: str) -> None:
    broken = shop("deployments", "check", guide, "2.0")
    lines = [line.split() for line in broken.stdout.splitlines()]

    assert broken.exit_code == 1
    assert "callers would break" in broken.stdout
    assert ["breaks", "variables.city"] in [line[:2] for line in lines]
    assert ["breaks", "variables.country"] in [line[:2] for line in lines]
    assert "callers would break" not in done(shop("deployments", "check", guide, "1.0", "--alias", "live"))
    as_json = shop("--json", "deployments", "check", guide, "2.0")
    assert as_json.exit_code == 1
    assert json.loads(as_json.stdout)["compatibility"] == "COMPATIBILITY_DIFFERENT"


def test_two_contracts_in_files_are_checked(shop: Shop, tmp_path: Path) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
    (tmp_path / "a.json").write_text(json.dumps(schema))
    (tmp_path / "b.json").write_text(json.dumps({"variables_schema": schema, "response_format": None}))
    schema["properties"]["city"] = {"type": "integer"}
    (tmp_path / "c.json").write_text(json.dumps(schema))
    (tmp_path / "d.json").write_text("[1]")

    assert "equal" in done(shop("deployments", "check", "--before", "a.json", "--after", "b.json"))
    broken = shop("deployments", "check", "--before", "a.json", "--after", "c.json")
    assert broken.exit_code == 1
    assert "variables.city" in broken.stdout
    assert "d.json" in told(shop("deployments", "check", "--before", "a.json", "--after", "d.json"))
    assert "nope.json" in told(shop("deployments", "check", "--before", "a.json", "--after", "nope.json"))
    assert shop("deployments", "check", "guide").exit_code == 2


def test_a_refused_change_lists_every_path_on_a_line_of_its_own(shop: Shop, guide: str) -> None:
    refused = told(shop("deployments", "alias", guide, "live", "2.0"))

    assert "CONTRACT_BROKEN" in refused
    lines = [line for line in refused.splitlines() if line.startswith("  variables.")]
    assert [line.split(":")[0].strip() for line in lines] == ["variables.city", "variables.country"]


def test_programs_that_call_a_deployment_are_printed(shop: Shop, guide: str) -> None:
    every = done(shop("deployments", "snippets", guide))
    curl = done(shop("deployments", "snippets", f"{guide}/variant-1", "--language", "curl"))

    assert "(python-openai)" in every
    assert "(curl)" in every
    assert "TURNOUT_API_KEY" in curl
    assert "country" in curl
    assert "----" not in curl
    assert "NOT_FOUND" in told(shop("deployments", "snippets", "nope"))
    assert shop("deployments", "snippets", "guide/").exit_code == 2


def test_fallbacks_and_what_becomes_of_bad_answers_are_set_and_changed(shop: Shop, llm_url: str) -> None:
    for name in ("local", "spare"):
        done(shop("providers", "create", name, "--base-url", llm_url))
    words = ("--provider", "local", "--model", "m", "--user", "Hello", "--skip-model-check")
    tries = ("--fallback", "spare/a/b", "--fallback", "local/n", "--output-policy", "retry", "--retries", "1")
    done(shop("deployments", "create", "safe", *words, *tries))

    def completion() -> dict[str, Any]:
        [variant] = json.loads(done(shop("--json", "deployments", "show", "safe")))["variants"]
        return dict(variant["completion"])

    before = completion()
    assert [(each["provider"], each["model"]) for each in before["fallbacks"]] == [("spare", "a/b"), ("local", "n")]
    assert (before["output_policy"], before["max_retries"]) == ("OUTPUT_POLICY_RETRY", 1)
    assert "spare/a/b, local/n" in done(shop("deployments", "show", "safe"))
    update = ("deployments", "update", "safe", "variant-1", "--skip-model-check")
    done(shop(*update, "--retries", "4"))
    assert completion() == before | {"max_retries": 4}
    done(shop(*update, "--no-fallbacks", "--output-policy", "fail"))
    after = completion()
    assert ("fallbacks" in after, after["output_policy"]) == (False, "OUTPUT_POLICY_FAIL")
    same = shop(*update, "--fallback", "local/m")
    assert "warning: fallback 1 (local/m) is the same provider and model as the version's own" in same.stderr
    assert "PROVIDER_NOT_FOUND" in told(shop(*update, "--fallback", "nowhere/m"))
    assert shop(*update, "--fallback", "local").exit_code == 2
    assert shop(*update, "--fallback", "local/m", "--no-fallbacks").exit_code == 2
    assert shop("deployments", "update", "safe", "nope", "--retries", "1").exit_code == 2
    history = json.loads(done(shop("--json", "deployments", "history", "safe")))
    assert [each["number"] for each in history] == ["1.3", "1.2", "1.1", "1.0"]


def completed(words: str, **environment: str) -> list[str]:
    """What bash would propose for the last word of a command."""
    typed = words.split(" ")
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(typed) - 1), "_TURNOUT_COMPLETE": "complete_bash"}
    ran = subprocess.run(
        # As the script that `turnout` is: its name is what completion is asked for.
        [sys.executable, "-c", "import sys; sys.argv[0] = 'turnout'; from cli.main import main; sys.exit(main())"],
        env={**os.environ, **asked, **environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stderr == ""
    return ran.stdout.split()


def test_bash_completes_commands_deployments_and_aliases(
    shop: Shop, installation: Installation, guide: str, turnout: Shop
) -> None:
    done(shop("deployments", "alias", guide, "production#1", "1.0"))
    project = json.loads(done(shop("--json", "projects", "list")))[0]["name"].rpartition("/")[2]
    place = {
        "TURNOUT_ADDRESS": installation.address("registry"),
        "TURNOUT_API_KEY": installation.secrets.platform_key,
        "TURNOUT_PROJECT": project,
    }

    assert completed("turnout app", **place) == ["apply"]
    assert completed("turnout deployments show g", **place) == ["guide"]
    assert completed("turnout deployments show x", **place) == []
    assert completed("turnout run g", **place) == ["guide", "guide:production#1"]
    assert completed("turnout logs g", **place) == ["guide"]
    assert completed("turnout deployments delete-variant guide v", **place) == ["variant-1"]
    assert completed("turnout providers check l", **place) == ["local"]
    assert completed("turnout deployments create x --provider l", **place) == ["local"]
    assert completed("turnout providers unarchive l", **place) == []
    assert completed("turnout deployments update guide variant-1 --alias p", **place) == ["production#1"]
    assert completed(f"turnout --project {project} deployments show g", **(place | {"TURNOUT_PROJECT": ""})) == [
        "guide"
    ]


def test_completion_is_silent_and_quick_where_nobody_answers(tmp_path: Path) -> None:
    key = "tk_" + "x" * 10
    began = time.monotonic()
    for place in (
        {"TURNOUT_ADDRESS": "127.0.0.1:1", "TURNOUT_API_KEY": "", "TURNOUT_PROJECT": "p"},
        {"TURNOUT_ADDRESS": "127.0.0.1:1", "TURNOUT_API_KEY": key, "TURNOUT_PROJECT": "p"},
        {"TURNOUT_ADDRESS": "not an address", "TURNOUT_API_KEY": "", "TURNOUT_PROJECT": ""},
    ):
        assert completed("turnout deployments show g", **place) == []
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_for_each_shell(shell: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv[0] = 'turnout'; from cli.main import main; sys.exit(main())",
            "--install-completion",
            shell,
        ],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    files = [file.read_text() for file in tmp_path.rglob("*") if file.is_file()]
    assert any("_TURNOUT_COMPLETE" in text for text in files)
