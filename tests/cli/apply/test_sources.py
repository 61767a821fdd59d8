"""Providers and prompts from files, against a whole installation."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.apply.files import FILE, Shop, actions, answer, changed, done, told, written

pytestmark = pytest.mark.slow


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
