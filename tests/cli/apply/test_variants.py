"""Variants from files, against a whole installation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.apply.files import FILE, Shop, actions, answer, changed, done, revisions, told, written

pytestmark = pytest.mark.slow


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


def test_an_empty_display_name_is_the_slug_again(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = FILE.format(url=llm_url)
    file = written(tmp_path, changed(text, "  calm:\n", "  calm:\n    display_name: Calm one\n    notes: slow\n"))
    done(shop("apply", "-f", file, "--yes"))
    written(tmp_path, changed(text, "  calm:\n", '  calm-one:\n    display_name: ""\n    notes: ""\n'))

    shown = done(shop("apply", "-f", file, "--yes"))

    assert 'variants.calm-one.display_name: "Calm one" → "calm-one"' in shown
    assert 'variants.calm-one.notes: "slow" → ""' in shown
    assert set(actions(shop, "-f", file).values()) == {"keep"}


ONE = """\
kind: Deployment
name: solo
variants:
  {slug}: {{provider: local, model: m, messages: [{{role: user, content: Hello}}]}}
"""


def test_the_only_variant_under_another_name_answers_all_calls(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    done(shop("providers", "create", "local", "--base-url", llm_url))
    file = written(tmp_path, ONE.format(slug="old"))
    done(shop("apply", "-f", file, "--yes"))
    written(tmp_path, ONE.format(slug="new"))

    # The one that stays answers, so that another moves nobody.
    assert "variants.new.weight" not in done(shop("apply", "-f", file, "--dry-run"))
    assert "variants.new.weight: 100" in done(shop("apply", "-f", file, "--dry-run", "--prune"))
    done(shop("apply", "-f", file, "--yes", "--prune"))

    [variant] = answer(shop, "deployments", "show", "solo")["variants"]
    assert (variant["slug"], variant["weight"]) == ("new", 100)
    assert "nothing to do" in done(shop("apply", "-f", file, "--yes", "--prune"))


def test_a_deployment_is_taken_down_only_by_a_file_that_says_so(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    done(shop("providers", "create", "local", "--base-url", llm_url))
    other = "  {slug}: {{provider: local, model: m, weight: {weight}, messages: [{{role: user, content: Hello}}]}}\n"
    file = written(tmp_path, ONE.format(slug="old"))
    done(shop("apply", "-f", file, "--yes"))
    written(tmp_path, ONE.format(slug="new") + other.format(slug="more", weight=0))

    for how in ("--dry-run", "--yes"):
        refused = told(shop("apply", "-f", file, how, "--prune"))
        assert "guide.yaml:4 variants.new would answer no calls" in refused
        assert "NOTHING_SERVES" in refused
    assert revisions(shop, "solo") == ["1.0"]
    meant = ONE[: ONE.index("  {slug}")] + other.format(slug="old", weight=0)
    written(tmp_path, meant)

    shown = done(shop("apply", "-f", file, "--dry-run", "--prune"))

    assert "calls will fail with NO_ACTIVE_VARIANT" in shown
    done(shop("apply", "-f", file, "--yes"))
    assert answer(shop, "deployments", "show", "solo")["variants"][0].get("weight", 0) == 0
    assert "nothing to do" in done(shop("apply", "-f", file, "--yes"))


def test_what_a_prompt_will_say_is_checked_before_it_is_written(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = changed(FILE.format(url=llm_url), "prompt: welcome@1", "prompt: welcome")
    file = written(tmp_path, text)
    assert "will be created" in done(shop("apply", "-f", file, "--dry-run"))
    done(shop("apply", "-f", file, "--yes"))
    written(tmp_path, changed(text, "Be brief.", "Be {{ manner }}."))

    refused = told(shop("apply", "-f", file, "--dry-run"))

    assert "variables.manner" in refused
    assert "CONTRACT_BROKEN" in refused
    assert "--draft" in refused
    assert answer(shop, "prompts", "list")[0].get("number", 1) == 1
    written(tmp_path, changed(text, "Be brief.", "Be kind."))
    assert 'prompt: "welcome@1" → "welcome@2"' in done(shop("apply", "-f", file, "--dry-run"))


def test_everything_that_is_missing_is_told_at_once(shop: Shop, llm_url: str, tmp_path: Path) -> None:
    text = FILE.format(url=llm_url)
    text = changed(text, "welcome@1", "welcome@9")
    other = "---\nkind: Deployment\nname: more\nvariants:\n  a: {prompt: none, provider: local, model: m}\n"
    gone = "---\nkind: Provider\nname: spare\nprovider_kind: openai\ncredential_env: UNSET\n"
    uses = "---\nkind: Deployment\nname: last\nvariants:\n  a: {prompt: welcome, provider: spare, model: m}\n"
    file = written(tmp_path, text + other + gone + uses)

    refused = told(shop("apply", "-f", file, "--yes"))

    lines = [line.strip() for line in refused.splitlines()]
    assert lines[0] == "nothing was applied: 3 problems"
    assert "credential_env names UNSET, which is not set here" in lines[1]
    assert "variants.calm.prompt names welcome@9, which there is not" in lines[2]
    assert "variants.a.prompt names none, which there is not" in lines[3]
    assert answer(shop, "providers", "list") == []
