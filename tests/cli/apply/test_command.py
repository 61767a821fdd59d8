"""`turnout apply` against a whole installation: files become what they say, and nothing twice."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.apply import command
from stack.services import Installation
from tests.cli.apply.files import FILE, Shop, actions, answer, changed, done, revisions, told, written

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[3]


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
