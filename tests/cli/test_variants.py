"""Variants made, changed and taken away from the command line, against a whole installation."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

pytestmark = pytest.mark.slow

Shop = Callable[..., Result]


def done(result: Result) -> str:
    """What was shown, if all went well."""
    assert result.exit_code == 0, result.stderr + result.stdout
    return result.stdout


def told(result: Result) -> str:
    """What was said about a failure."""
    assert result.exit_code == 1, result.stdout
    assert "Traceback" not in result.stderr
    return result.stderr


def misused(result: Result) -> str:
    """What was said about bad usage, without its frame."""
    assert result.exit_code == 2, result.stdout + result.stderr
    return " ".join(result.stderr.replace("│", " ").split())


def answer(shop: Shop, *arguments: str) -> Any:
    """The same as JSON."""
    return json.loads(done(shop("--json", *arguments)))


@pytest.fixture
def guide(shop: Shop, llm_url: str) -> str:
    """A deployment of one variant."""
    done(shop("providers", "create", "local", "--base-url", llm_url))
    words = ("--provider", "local", "--model", "m", "--system", "On {{ country }}.", "--temperature", "0.5")
    done(shop("deployments", "create", "guide", *words, "--skip-model-check"))
    return "guide"


def variants(shop: Shop, name: str = "guide") -> dict[str, Any]:
    """By slug."""
    return {each["slug"]: each for each in answer(shop, "deployments", "show", name).get("variants", ())}


def document(shop: Shop, slug: str) -> str:
    """What a variant says, as a file has it."""
    whole = done(shop("deployments", "export", "guide"))
    return whole.partition(f"  {slug}:\n")[2]


def test_a_variant_is_added_like_another_changed_and_taken_away(shop: Shop, guide: str) -> None:
    like = ("--display-name", "Small", "--like", "variant-1", "--model", "n", "--skip-model-check")
    assert "variants/small: weight 0, active" in done(shop("deployments", "create-variant", guide, *like))
    assert "model: n" in document(shop, "small")
    assert "On {{ country }}." in document(shop, "small")
    assert variants(shop)["small"]["completion"]["max_retries"] == 2

    done(shop("deployments", "update", guide, "small", "--notes", "cheap", "--weight", "5", "--display-name", "Tiny"))
    small = variants(shop)["small"]
    assert (small["notes"], small["weight"], small["display_name"]) == ("cheap", 5, "Tiny")
    done(shop("deployments", "update", guide, "small", "--notes", ""))
    small = variants(shop)["small"]
    assert ("notes" in small, small["weight"]) == (False, 5)
    assert "live → " in done(shop("deployments", "delete-variant", guide, "small"))
    assert set(variants(shop)) == {"variant-1"}
    assert "VARIANT_NOT_FOUND" in told(shop("deployments", "delete-variant", guide, "small"))
    assert "there are variant-1" in misused(shop("deployments", "create-variant", guide, "--like", "small"))
    assert "--like" in misused(shop("deployments", "create-variant", guide))


def test_what_a_variant_says_is_changed_and_the_rest_stays(shop: Shop, guide: str, tmp_path: Path) -> None:
    update = ("deployments", "update", guide, "variant-1", "--skip-model-check")
    done(shop(*update, "--model", "n", "--parameter", "top_p=0.25"))
    shown = document(shop, "variant-1")
    assert "model: n" in shown
    assert "temperature: 0.5" in shown
    assert "top_p: 0.25" in shown
    assert "On {{ country }}." in shown

    done(shop(*update, "--system", "All about {{ country }}.", "--parameter", "temperature="))
    shown = document(shop, "variant-1")
    assert "All about {{ country }}." in shown
    assert "temperature" not in shown
    (tmp_path / "m.yaml").write_text("[{role: user, content: 'In {{ country }}?'}]")
    done(shop(*update, "--file", "m.yaml"))
    assert "All about" not in document(shop, "variant-1")
    assert "In {{ country }}?" in document(shop, "variant-1")


def test_what_would_be_is_told_and_nothing_changes(shop: Shop, guide: str) -> None:
    before = done(shop("deployments", "history", guide))
    for command in (
        ("update", guide, "variant-1", "--weight", "7"),
        ("update", guide, "--protected"),
        ("create-variant", guide, "--like", "variant-1", "--skip-model-check"),
        ("delete-variant", guide, "variant-1"),
        ("rollback", guide, "1.0"),
        ("alias", guide, "staging", "1.0"),
    ):
        assert "nothing was changed" in done(shop("deployments", *command, "--dry-run")), command
    create = ("other", "--provider", "local", "--model", "m", "--dry-run")
    assert "nothing was changed" in done(shop("deployments", "create", *create))

    assert done(shop("deployments", "history", guide)) == before
    assert "staging" not in done(shop("deployments", "show", guide))
    assert "other" not in done(shop("deployments", "list"))


def test_the_number_grows_as_asked_for(shop: Shop, guide: str) -> None:
    done(shop("deployments", "update", guide, "variant-1", "--weight", "7", "--bump", "major"))

    assert answer(shop, "deployments", "show", guide)["revision"] == "2.0"


def test_a_draft_tells_its_number_and_the_command_that_publishes_it(shop: Shop, guide: str) -> None:
    changes: tuple[tuple[str, ...], ...] = (
        ("update", guide, "variant-1", "--weight", "7"),
        ("create-variant", guide, "--like", "variant-1", "--skip-model-check"),
        ("rollback", guide, "1.1"),
        ("delete-variant", guide, "variant-1", "--retain-contract"),
    )
    known = {"1.0"}
    for change in changes:
        shown = done(shop("deployments", *change, "--draft"))
        numbers = {each["number"] for each in answer(shop, "deployments", "history", guide)}
        [number] = numbers - known
        known = numbers
        assert f"draft {number}" in shown
        assert answer(shop, "deployments", "show", guide)["revision"] == "1.0"
        command = shown.partition("to publish it: ")[2].strip()
        assert command.endswith(f"deployments alias guide live {number}")
    assert answer(shop, "deployments", *changes[0], "--draft", "--bump", "major")["draft"] == "4.0"
    same = done(shop("deployments", "update", guide, "variant-1", "--weight", "100", "--draft"))
    assert "no draft was made" in same

    shown = done(shop("deployments", *changes[0], "--draft"))
    words = shlex.split(shown.partition("to publish it: ")[2])
    assert "live → " in done(shop(*words[words.index("deployments") :]))
    assert variants(shop)["variant-1"]["weight"] == 7


def test_a_refusal_for_the_callers_sake_names_the_ways_around_it(shop: Shop, guide: str) -> None:
    refused = told(
        shop("deployments", "update", guide, "variant-1", "--system", "In {{ city }}.", "--skip-model-check")
    )

    assert "CONTRACT_BROKEN" in refused
    assert "--draft" in refused
    assert "another alias" in refused


def test_options_that_do_not_go_together_are_refused_and_none_is_dropped(shop: Shop, guide: str) -> None:
    update = ("deployments", "update", guide)

    assert "--weight" in misused(shop(*update, "--protected", "--weight", "3"))
    assert "without variant-1" in misused(shop(*update, "variant-1", "--protected"))
    assert "say what to change of variant-1" in misused(shop(*update, "variant-1"))
    assert "say what to change" in misused(shop(*update, "variant-1", "--description", "why"))
    assert "--protected" in misused(shop(*update))
    assert "--unknown-users" in misused(shop(*update, "variant-1", "--unknown-users", "refuse"))
    assert len(answer(shop, "deployments", "history", guide)) == 1
    assert "protected" not in done(shop("deployments", "show", guide))


def test_names_are_taken_as_they_are_printed_and_with_an_alias(shop: Shop, guide: str) -> None:
    full = answer(shop, "deployments", "show", guide)["name"]
    done(shop("deployments", "alias", full, "staging", "1.0"))
    changed = done(shop("deployments", "update", f"{guide}:staging", "variant-1", "--weight", "7"))
    variant = changed.partition(": ")[0]
    assert variant == f"{full}/variants/variant-1"

    assert "revision  1.0" in " ".join(done(shop("deployments", "show", full)).split("\n"))
    assert answer(shop, "deployments", "show", f"{full}:staging")["revision"] == "1.1"
    assert variants(shop, f"{guide}:staging")["variant-1"]["weight"] == 7
    assert variants(shop, variant)["variant-1"]["weight"] == 100
    assert "weight 9" in done(shop("deployments", "update", variant, "--weight", "9"))
    assert "1.1" in done(shop("deployments", "history", full))
    assert "weight" in done(shop("deployments", "diff", f"{full}:staging", "1.0"))
    assert "equal" in done(shop("deployments", "check", f"{full}:staging", "1.0"))
    assert "kind: Deployment" in done(shop("deployments", "export", full))
    assert "guide:staging" in done(shop("deployments", "snippets", f"{full}:staging"))
    assert "live → " in done(shop("deployments", "rollback", full, "1.0"))
    assert done(shop("changes", "list", full))
    assert "deployment" in done(shop("stats", full))
    assert done(shop("logs", full))
    assert "every alias" in misused(shop("deployments", "archive", f"{guide}:staging"))
    assert "archived" in done(shop("deployments", "archive", full))
    assert "guide (archived)" in done(shop("deployments", "list", "--archived"))
    assert "guide" not in done(shop("deployments", "list"))
    assert "guide:staging (with an alias)" in misused(shop("deployments", "show", "guide:"))
    provider = answer(shop, "providers", "list")[0]["name"]
    assert "base url" in done(shop("providers", "show", provider))


def test_a_command_that_is_proposed_has_the_variables_that_the_call_needs(shop: Shop, llm_url: str) -> None:
    done(shop("providers", "create", "local", "--base-url", llm_url))
    words = ("--provider", "local", "--model", "m", "--system", "On {{ country }} in {{ language }}.")

    proposed = done(shop("deployments", "create", "guide", *words)).partition("try: ")[2]

    assert "-v country=… -v language=…" in proposed
    refused = told(shop("deployments", "create", "Not A Name", *words))
    assert "regex" not in refused
    assert refused.count("deployment_id") == 1
    assert "letter" in refused


def test_a_table_stays_narrow_however_many_variants_there_are(shop: Shop, guide: str, tmp_path: Path) -> None:
    lines = ["kind: Deployment", "name: many", "variants:"]
    for number in range(200):
        lines += [f"  v{number}:", "    provider: local", "    model: m", "    weight: 1"]
        lines += ["    messages: [{role: user, content: Hello}]"]
    (tmp_path / "many.yaml").write_text("\n".join(lines))
    done(shop("apply", "-f", "many.yaml", "--yes", "--skip-model-check"))

    for command in (("list",), ("history", "many")):
        shown = done(shop("deployments", *command))
        assert max(map(len, shown.splitlines())) < 250
        assert "more" in shown


def test_an_applied_file_says_what_became_of_each_variant(shop: Shop, guide: str, tmp_path: Path) -> None:
    variant = "provider: local, model: m, messages: [{role: user, content: '{{ country }}'}]"
    head = "kind: Deployment\nname: guide\nvariants:\n"
    (tmp_path / "a.yaml").write_text(f"{head}  lively: {{{variant}}}\n")
    apply = ("apply", "-f", "a.yaml", "--yes", "--skip-model-check")

    assert "variant lively: created" in done(shop(*apply))
    assert "NOTHING_SERVES" in told(shop(*apply, "--prune"))
    (tmp_path / "a.yaml").write_text(f"{head}  lively: {{weight: 3, {variant}}}\n")
    assert "variant lively: changed" in done(shop(*apply))
    assert "variant variant-1: deleted" in done(shop(*apply, "--prune"))
