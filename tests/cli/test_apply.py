"""`turnout apply` against a whole installation: files become providers, prompts and deployments, and nothing twice."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from cli.apply import command
from stack.services import Installation

pytestmark = pytest.mark.slow

Shop = Callable[..., Result]
REPOSITORY = Path(__file__).resolve().parents[2]

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


def approver(shop: Shop, installation: Installation) -> Shop:
    """The same command with another key, which may approve."""
    scopes = ("registry:read", "registry:write", "deployments:approve")
    made = shop(
        "keys",
        "create",
        "approver",
        *(word for scope in scopes for word in ("--scope", scope)),
        TURNOUT_API_KEY=installation.secrets.platform_key,
    )
    key = done(made).strip()

    def run(*arguments: str, **environment: str) -> Result:
        return shop(*arguments, TURNOUT_API_KEY=key, **environment)

    deadline = time.monotonic() + 5
    while "KEY_UNKNOWN" in run("deployments", "list").stderr:
        assert time.monotonic() < deadline
    return run


def test_a_file_becomes_what_it_says_and_applying_it_again_changes_nothing(
    shop: Shop, llm_url: str, tmp_path: Path
) -> None:
    file = written(tmp_path, FILE.format(url=llm_url))

    assert set(actions(shop, "-f", file).values()) == {"create"}
    first = done(shop("apply", "-f", file, "--yes"))
    again = done(shop("apply", "-f", file, "--yes"))

    assert "+You greet guests from {{ country }}." in first
    assert "variants.calm.weight: 90" in first
    assert "deployment guide: created, revision 1.0" in first
    assert "nothing to do" in again
    assert revisions(shop) == ["1.0"]
    assert set(actions(shop, "-f", file).values()) == {"keep"}
    assert shop("apply", "-f", file, "--dry-run", "--exit-code").exit_code == 0
    found = answer(shop, "deployments", "show", "guide")
    assert [each["slug"] for each in found["variants"]] == ["calm", "lively"]
    assert found["variants"][0]["completion"]["prompt"] == "welcome@1"
    assert found["variants"][1]["completion"]["attempt_timeout"] == "30s"


def test_a_dry_run_shows_the_difference_and_changes_nothing(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = FILE.format(url=llm_url)
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    written(tmp_path, changed(changed(text, "weight: 10", "weight: 20"), "loudly", "with songs"))

    shown = shop("apply", "-f", file, "--dry-run", "--exit-code")
    [*_, found] = answer(shop, "apply", "-f", file, "--dry-run")["resources"]

    assert shown.exit_code == 2
    assert "variants.lively.weight: 10 → 20" in shown.stdout
    assert "deployment guide will be changed" in shown.stdout
    assert [(each["path"], each["before"], each["after"]) for each in found["differences"]] == [
        ("variants.lively.weight", 10, 20),
        (
            "variants.lively.messages[0].content",
            "You greet guests from {{ country }}, loudly.",
            "You greet guests from {{ country }}, with songs.",
        ),
    ]
    assert revisions(shop) == ["1.0"]
    assert shop("apply", "-f", file, "--exit-code").exit_code == 2


def test_nothing_is_applied_unasked(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    file = written(tmp_path, FILE.format(url=llm_url))

    refused = shop("apply", "-f", file)

    assert "--yes" in told(refused)
    assert "provider local will be created" in refused.stdout
    assert answer(shop, "providers", "list") == []


def test_each_changed_variant_is_one_revision_and_a_removed_one_stays_unless_pruned(
    shop: Shop, llm_url: str, tmp_path: Path
) -> None:
    text = FILE.format(url=llm_url)
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    lively = text.index("  lively:")
    other = changed(text[lively:], "lively:", "quick:").replace("weight: 10", "weight: 0")
    written(tmp_path, changed(text[:lively], "weight: 90", "weight: 80") + other)

    shown = done(shop("apply", "-f", file, "--yes", "--description", "try quick"))
    history = answer(shop, "deployments", "history", "guide")

    assert "variant lively is not in the file and stays as it is; --prune takes it away" in shown
    assert [(each["number"], each.get("description", "")) for each in history] == [
        ("2.1", "try quick"),
        ("2.0", "try quick"),
        ("1.0", ""),
    ]
    assert [each["slug"] for each in history[0]["variants"]] == ["calm", "lively", "quick"]
    done(shop("apply", "-f", file, "--yes", "--prune"))
    assert [each["slug"] for each in answer(shop, "deployments", "show", "guide")["variants"]] == ["calm", "quick"]
    assert "nothing to do" in done(shop("apply", "-f", file, "--yes", "--prune"))
    # A slug is never given twice: the variant that comes back has another, and is known by its display name.
    written(tmp_path, text)
    assert "its slug is lively-2" in done(shop("apply", "-f", file, "--yes", "--prune"))
    assert set(actions(shop, "-f", file, "--prune").values()) == {"keep"}


def test_what_a_file_does_not_say_stays_but_what_is_served_is_whole(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = FILE.format(url=llm_url)
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    done(shop("deployments", "update", "guide", "calm", "--inactive"))
    done(shop("deployments", "update", "guide", "lively", "--weight", "55"))
    less = changed(text, "    weight: 10\n", "").replace("description: Travel advice.\n", "")
    written(tmp_path, changed(less, "    parameters: {temperature: 0.3, stop: [END]}\n", ""))

    done(shop("apply", "-f", file, "--yes"))

    found = answer(shop, "deployments", "show", "guide")
    assert found["description"] == "Travel advice."
    assert (found["variants"][0]["active"], found["variants"][1]["weight"]) == (False, 55)
    [version] = [found["variants"][0]["completion"]["version"]]
    exported = done(shop("deployments", "export", "guide"))
    assert "parameters" not in exported, version


def test_a_prompt_without_a_number_follows_the_prompt_and_one_with_a_number_stays(
    shop: Shop, llm_url: str, tmp_path: Path
) -> None:
    text = changed(FILE.format(url=llm_url), "    messages:\n      - role: system\n", "    prompt: welcome\n")
    text = text[: text.rindex("        content")]
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    written(tmp_path, changed(text, "Be brief.", "Be kind."))

    shown = done(shop("apply", "-f", file, "--yes"))

    assert "  -Be brief." in shown
    assert "  +Be kind." in shown
    assert 'variants.lively.prompt: "welcome@1" → "welcome@2"' in shown
    found = answer(shop, "deployments", "show", "guide")
    assert [each["completion"]["prompt"] for each in found["variants"]] == ["welcome@1", "welcome@2"]
    assert set(actions(shop, "-f", file).values()) == {"keep"}


def test_what_is_exported_is_found_unchanged(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    rich = """\
kind: Deployment
name: rich
display_name: "1e5"
description: "# no comment: yes\\nsecond line "
salt: "no"
variants:
  calm:
    display_name: "Calm – ruhig 😀"
    notes: "line\\n  indented\\n\\ttabbed\\n"
    weight: 33.25
    active: false
    provider: local
    model: "012"
    parameters: {temperature: 0, top_p: 0.1, seed: 4611686018427387904, parallel_tool_calls: false, stop: ["no", "~"],
      extra: {nothing: null, deep: [[1, 2.5], {"on": "off"}]}}
    tools:
      - type: function
        function: {name: find, parameters: {type: object, properties: {size: {enum: ["1", 1, 1.5, "null", true]}}}}
    tool_choice: {type: function, function: {name: find}}
    response_format:
      type: json_schema
      json_schema: {name: answer, strict: true, schema: {type: object, properties: {answer: {type: string}}}}
    variables_schema: {type: object, properties: {country: {type: string, description: "the guest's"}}}
    messages:
      - {role: system, content: "On {{ country }}."}
      - {role: user, parts: [{text: see}, {image: {url: "https://example.com/y.png", detail: low}}]}
  lively:
    prompt: welcome@1
    provider: local
    model: m
    max_retries: 3
    attempt_timeout: 1500ms
    response_format:
      type: json_schema
      json_schema: {name: answer, strict: true, schema: {type: object, properties: {answer: {type: string}}}}
"""
    file = written(tmp_path, FILE.format(url=llm_url) + "---\n" + rich)
    done(shop("apply", "-f", file, "--yes"))

    exported = done(shop("deployments", "export", "rich"))
    written(tmp_path, exported, "exported.yaml")

    assert actions(shop, "-f", "exported.yaml") == {"Deployment rich": "keep"}, exported
    assert "prompt: welcome@1" in exported
    assert "attempt_timeout: 1.5s" in exported
    # In a project of its own it becomes the same.
    written(tmp_path, exported.replace("name: rich", "name: copy", 1), "copy.yaml")
    done(shop("apply", "-f", "copy.yaml", "--yes"))
    before, after = (answer(shop, "deployments", "show", name)["variants"] for name in ("rich", "copy"))
    # The slug comes from the display name, and the key finds it by that.
    assert [each["completion"] for each in before] == [each["completion"] for each in after]
    assert actions(shop, "-f", "copy.yaml") == {"Deployment copy": "keep"}


TRYING = """\
kind: Provider
name: local
provider_kind: openai-compatible
base_url: {url}
model_facts:
  - {{model: m, input_usd_micros_per_million: 2500000, context_window_tokens: 8192}}
  - {{model: n}}
max_concurrent_calls: 50
---
kind: Provider
name: spare
provider_kind: openai-compatible
base_url: {url}
---
kind: Deployment
name: guide
variants:
  calm:
    provider: local
    model: m
    messages: [{{role: user, content: Hello}}]
    fallbacks:
      - {{provider: spare, model: m, parameters: {{temperature: 0.5}}, max_retries: 1, attempt_timeout: 10s}}
      - {{provider: local, model: n}}
    retry_statuses: [503, 429]
    first_token_timeout: 2s
    idle_timeout: 500ms
    output_policy: fail
"""


def test_fallbacks_and_facts_of_models_become_what_the_file_says(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = TRYING.format(url=llm_url)
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes", "--skip-model-check"))

    assert set(actions(shop, "-f", file).values()) == {"keep"}
    [guide] = answer(shop, "deployments", "list")
    completion = guide["variants"][0]["completion"]
    assert [each["provider"] for each in completion["fallbacks"]] == ["spare", "local"]
    assert (completion["retry_statuses"], completion["output_policy"]) == ([429, 503], "OUTPUT_POLICY_FAIL")
    exported = written(tmp_path, done(shop("deployments", "export", "guide")), "exported.yaml")
    assert set(actions(shop, "-f", exported).values()) == {"keep"}

    written(tmp_path, changed(changed(text, "temperature: 0.5", "temperature: 1"), "  - {model: n}\n", ""))
    planned = answer(shop, "apply", "-f", file, "--dry-run")["resources"]
    paths = {each["name"]: [difference["path"] for difference in each["differences"]] for each in planned}
    assert paths["guide"] == ["variants.calm.fallbacks[0].parameters.temperature"]
    assert paths["local"] == ["model_facts[1]"]
    done(shop("apply", "-f", file, "--yes", "--skip-model-check"))
    assert revisions(shop) == ["1.1", "1.0"]
    assert set(actions(shop, "-f", file).values()) == {"keep"}


def test_aliases_are_managed_where_a_file_names_them(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = FILE.format(url=llm_url)
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    done(shop("deployments", "alias", "guide", "other", "1.0"))
    written(tmp_path, text + 'aliases:\n  production: "1.0"\n')

    assert 'aliases.production: "1.0"' in done(shop("apply", "-f", file, "--yes"))
    assert set(actions(shop, "-f", file).values()) == {"keep"}
    exported = done(shop("deployments", "export", "guide", "--aliases"))
    assert 'production: "1.0"' in exported
    assert 'other: "1.0"' in exported
    written(tmp_path, text + 'aliases:\n  production: "7.0"\n')
    refused = told(shop("apply", "-f", file, "--yes"))
    assert refused.startswith("guide.yaml:35 aliases.production points to revision 7.0, which there is not\n")


def test_credentials_come_from_the_environment_and_are_set_once(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = (
        f"kind: Provider\nname: paid\nprovider_kind: openai-compatible\nbase_url: {llm_url}\ncredential_env: PAID_KEY\n"
    )
    file = written(tmp_path, text)

    refused = told(shop("apply", "-f", file, "--yes"))
    made = shop("apply", "-f", file, "--yes", PAID_KEY="sk-planted")

    assert "guide.yaml:5 credential_env names PAID_KEY, which is not set here" in refused
    assert "the value of PAID_KEY" in done(made)
    assert "sk-planted" not in made.stdout + made.stderr
    assert answer(shop, "providers", "list")[0]["has_credential"] is True
    assert actions(shop, "-f", file) == {"Provider paid": "keep"}
    again = done(shop("apply", "-f", file, "--yes", "--set-credentials", PAID_KEY="sk-other"))
    assert 'credential: "stored" → "the value of PAID_KEY"' in again
    written(tmp_path, changed(text, "name: paid", "name: paid\ndisplay_name: Paid"))
    assert 'display_name: "paid" → "Paid"' in done(shop("apply", "-f", file, "--yes"))
    # Elsewhere the stored one must not go by itself.
    written(tmp_path, changed(text, llm_url, "http://127.0.0.1:9/v1"))
    assert "PAID_KEY, which is not set here" in told(shop("apply", "-f", file, "--yes"))
    assert "the value of PAID_KEY" in done(shop("apply", "-f", file, "--yes", PAID_KEY="sk-moved"))


def test_a_mistake_is_told_with_its_place_before_anything_is_written(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = FILE.format(url=llm_url)
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))

    for before, after, said in (
        ("welcome@1", "welcome@9", "variants.calm.prompt names welcome@9, which there is not"),
        ("weight: 10", "weight: 1000", "guide.yaml:28 variants.lively.weight: must be a number from 0 to 100"),
        ("{{ country }}, loudly", "{{ country, loudly", "guide.yaml:25 variants.lively: "),
        (
            "    provider: local\n    model: m\n    weight: 90",
            "    provider: nope\n    model: m\n    weight: 90",
            "nope",
        ),
        ("provider_kind: openai-compatible", "provider_kind: ollama", "is openai-compatible for ever"),
    ):
        written(tmp_path, changed(changed(text, before, after), "Travel advice", "Other advice"))
        assert said in told(shop("apply", "-f", file, "--yes")), before
    assert revisions(shop) == ["1.0"]
    assert answer(shop, "deployments", "show", "guide")["description"] == "Travel advice."


def test_a_change_that_breaks_callers_is_refused_with_every_path(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = FILE.format(url=llm_url)
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    written(tmp_path, changed(text, "{{ country }}, loudly", "{{ country }}, {{ city }} and {{ street }}"))

    refused = shop("apply", "-f", file, "--yes")

    assert "CONTRACT_BROKEN" in told(refused)
    assert [line.split(":")[0].strip() for line in refused.stderr.splitlines()[1:3]] == [
        "variables.city",
        "variables.street",
    ], refused.stderr
    assert revisions(shop) == ["1.0"]


def test_what_somebody_else_changed_meanwhile_is_not_overwritten(
    shop: Shop, llm_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = FILE.format(url=llm_url)
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    new = "---\nkind: Provider\nname: more\nprovider_kind: openai-compatible\nbase_url: http://127.0.0.1:1/v1\n"
    written(tmp_path, changed(text, "weight: 90", "weight: 80") + new)

    def confirm(*_arguments: Any, **_options: Any) -> None:
        # Where a person would read the difference.
        done(shop("deployments", "update", "guide", "calm", "--weight", "70"))

    monkeypatch.setattr(command, "_confirm", confirm)
    refused = shop("apply", "-f", file)

    assert "ETAG_MISMATCH" in told(refused)
    assert "deployment guide, variant calm" in refused.stderr
    assert "done before that: provider more (1 of 1 writes)" in refused.stderr
    assert answer(shop, "deployments", "show", "guide")["variants"][0]["weight"] == 70
    monkeypatch.undo()


def test_a_change_of_a_protected_deployment_waits_and_is_asked_for_once(
    shop: Shop, installation: Installation, llm_url: str, tmp_path: Path
) -> None:
    text = changed(FILE.format(url=llm_url), "name: guide\n", "name: guide\nprotected: true\n")
    file = written(tmp_path, text)
    done(shop("apply", "-f", file, "--yes"))
    both = changed(changed(text, "weight: 90", "weight: 80"), "weight: 10", "weight: 20")
    written(tmp_path, both)

    asked = done(shop("apply", "-f", file, "--yes"))
    again = done(shop("apply", "-f", file, "--yes"))
    [change] = answer(shop, "changes", "list")

    assert "waits for approval" in asked
    assert f"changes approve {change['uid']}" in asked
    assert "not asked for yet: variant lively" in asked
    assert f"waits for approval as {change['uid']}" in again
    assert actions(shop, "-f", file)["Deployment guide"] == "wait"
    assert answer(shop, "deployments", "show", "guide")["variants"][0]["weight"] == 90
    manager = approver(shop, installation)
    done(manager("changes", "approve", change["uid"]))
    done(shop("apply", "-f", file, "--yes"))
    [change] = answer(shop, "changes", "list")
    done(manager("changes", "approve", change["uid"]))
    assert [each["weight"] for each in answer(shop, "deployments", "show", "guide")["variants"]] == [80, 20]
    assert "nothing to do" in done(shop("apply", "-f", file, "--yes"))


def test_on_a_terminal_a_person_is_asked(shop: Shop, installation: Installation, llm_url: str, tmp_path: Path) -> None:
    file = tmp_path / written(tmp_path, FILE.format(url=llm_url))

    for said, exit_status, made in ((b"n\n", 1, []), (b"y\n", 0, ["1.0"])):
        master, slave = pty.openpty()
        with os.fdopen(master, "rb+", buffering=0) as terminal:
            child = subprocess.Popen(
                [sys.executable, "-m", "cli.main", "apply", "-f", str(file)],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=surroundings(shop, installation),
                cwd=REPOSITORY,
            )
            os.close(slave)
            shown = b""
            while b"3 to change? [y/N]" not in shown:
                shown += terminal.read(4096)
            assert b"deployment guide \x1b" in shown
            terminal.write(said)
            # A terminal whose other side is gone fails to be read.
            with contextlib.suppress(OSError):
                while more := terminal.read(4096):
                    shown += more
            assert child.wait(60) == exit_status
            assert (b"nothing was changed" in shown) is (exit_status == 1)
        assert (revisions(shop) if answer(shop, "deployments", "list") else []) == made


def surroundings(shop: Shop, installation: Installation) -> dict[str, str]:
    """For the command in a process of its own."""
    name = answer(shop, "projects", "list")[0]["name"].rpartition("/")[2]
    return {
        **os.environ,
        "TURNOUT_ADDRESS": installation.address("registry"),
        "TURNOUT_API_KEY": installation.secrets.platform_key,
        "TURNOUT_PROJECT": name,
    }


def test_standard_input_is_read(shop: Shop, installation: Installation, llm_url: str) -> None:
    text = FILE.format(url=llm_url)

    ran = subprocess.run(
        [sys.executable, "-m", "cli.main", "apply", "-f", "-", "--yes"],
        input=text.encode(),
        env=surroundings(shop, installation),
        cwd=REPOSITORY,
        capture_output=True,
        timeout=60,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert revisions(shop) == ["1.0"]


def test_recommenders_are_declared_by_number_and_exported_as_they_are(shop: Shop, tmp_path: Path) -> None:
    rows = "".join(f"u{user},i{(user * step) % 7}\n" for user in range(6) for step in (1, 2, 3))
    (tmp_path / "rows.csv").write_text("user_id,item_id\n" + rows)
    done(shop("train", "rows.csv", "--algorithm", "popularity"))
    [model] = answer(shop, "models", "list")
    text = f"kind: Deployment\nname: movies\nvariants:\n  first:\n    recommendation: {{model: {model['number']}}}\n"
    file = written(tmp_path, text)

    done(shop("apply", "-f", file, "--yes"))

    assert actions(shop, "-f", file) == {"Deployment movies": "keep"}
    exported = done(shop("deployments", "export", "movies"))
    assert f"model: {model['uid']}" in exported
    written(tmp_path, exported, "exported.yaml")
    assert actions(shop, "-f", "exported.yaml") == {"Deployment movies": "keep"}
    written(tmp_path, text.replace("}", ", unknown_users: refuse}"))
    assert 'recommendation.unknown_users: "popular" → "refuse"' in done(shop("apply", "-f", file, "--yes"))
    written(tmp_path, text.replace(f"model: {model['number']}", "model: 999999"))
    assert "guide.yaml:5 variants.first.recommendation.model 999999 is not a model here" in told(
        shop("apply", "-f", file, "--yes")
    )
    written(tmp_path, "kind: Deployment\nname: movies\nvariants: {a: {provider: p, model: m}}\n")
    assert "must be recommendations" in told(shop("apply", "-f", file, "--yes"))
