"""Every command, against a whole installation."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from catalog import keys
from cli.program import program
from tests.system.processes import upstream

pytestmark = pytest.mark.slow


def done(result: Result) -> str:
    """What was shown, if all went well."""
    assert result.exit_code == 0, result.stderr
    return result.stdout


def told(result: Result) -> str:
    """What was said about a failure."""
    assert result.exit_code == 1, result.stdout
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def answer(shop: Callable[..., Result], *arguments: str) -> Any:
    """The same as JSON."""
    return json.loads(done(shop("--json", *arguments)))


def served(shop: Callable[..., Result], llm_url: str) -> None:
    """A provider and a deployment."""
    done(shop("providers", "create", "local", "--base-url", llm_url))
    done(shop("deployments", "create", "guide", "--provider", "local", "--model", "m", "--system", "On {{ country }}."))
    # As with a new key: until the executor has heard of it. Without its variable it is not called.
    deadline = time.monotonic() + 5
    while "NOT_FOUND" in shop("run", "guide").stderr:
        assert time.monotonic() < deadline


def counted(shop: Callable[..., Result], calls: int) -> Any:
    """The statistics, once so many served calls are in them."""
    deadline = time.monotonic() + 20
    while True:
        found = answer(shop, "stats")
        ok = int(found["total"].get("ok", 0))
        if ok >= calls or time.monotonic() > deadline:
            assert ok == calls
            return found


def test_projects_are_listed_with_what_people_named_them(shop: Callable[..., Result]) -> None:
    [project] = answer(shop, "projects", "list")

    assert project["display_name"] == "[red]Shop[/red]"
    assert "[red]Shop[/red]" in done(shop("projects", "list"))
    assert "PERMISSION_DENIED" in told(shop("projects", "create", "another"))


def test_providers_are_made_and_listed_without_their_credential(shop: Callable[..., Result], llm_url: str) -> None:
    made = shop("providers", "create", "local", "--base-url", llm_url, TURNOUT_PROVIDER_CREDENTIAL="sk-planted")
    assert "providers/local" in done(made)

    [provider] = answer(shop, "providers", "list")
    assert provider["base_url"] == llm_url
    shown = done(shop("providers", "list"))
    assert "stored" in shown
    assert "sk-planted" not in shown + json.dumps(provider) + made.stdout + made.stderr
    assert "ALREADY_EXISTS" in told(shop("providers", "create", "local", "--base-url", llm_url))
    assert "base_url" in told(shop("providers", "create", "second", "--base-url", "nonsense"))


def test_deployments_are_made_listed_and_shown(shop: Callable[..., Result], llm_url: str) -> None:
    served(shop, llm_url)

    [listed] = answer(shop, "deployments", "list")
    assert listed["name"].endswith("/deployments/guide")
    assert "100%" in done(shop("deployments", "list"))
    shown = done(shop("deployments", "show", "guide"))
    assert listed["uid"] in shown
    assert listed["name"] in shown
    assert answer(shop, "deployments", "show", listed["uid"])["name"] == listed["name"]
    assert "nope" in told(shop("deployments", "show", "nope"))
    assert "NOT_FOUND" in told(shop("deployments", "show", "nope"))


def test_a_call_prints_the_answer_alone_and_the_rest_beside_it(shop: Callable[..., Result], llm_url: str) -> None:
    served(shop, llm_url)

    plain = shop("run", "guide", "-v", "country=France", "Hello")
    whole = answer(shop, "run", "guide", "-v", "country=France", "Hello")

    assert done(plain) == "The capital of France is Paris.\n"
    assert "revision 1.0" in plain.stderr
    assert "unknown cost" in plain.stderr
    assert whole["message"]["content"] == "The capital of France is Paris."
    assert whole["decision"]["revision_number"] == "1.0"


def test_calls_that_cannot_be_served_are_told_in_sentences(shop: Callable[..., Result], llm_url: str) -> None:
    served(shop, llm_url)

    assert "NOT_FOUND" in told(shop("run", "nope"))
    missing = told(shop("run", "guide", "Hello"))
    assert "country" in missing
    assert "MISSING_VARIABLES" in missing
    usage = shop("run", "guide", "-v", "country", "Hello")
    assert usage.exit_code == 2
    assert "name=value" in usage.stderr


def test_a_call_that_failed_names_each_attempt(shop: Callable[..., Result], tmp_path: Path) -> None:
    with upstream(tmp_path / "broken", "--status", "503") as base_url:
        served(shop, base_url)

        failed = told(shop("run", "guide", "-v", "country=France", "Hello"))
        as_json = json.loads(told(shop("--json", "run", "guide", "-v", "country=France", "Hello")))["error"]

    sentence, *attempts, reason = failed.splitlines()
    assert "local/m after 3 attempts" in sentence
    assert [line.partition(" (HTTP 503)")[0] for line in attempts] == ["  local/m: PROVIDER_ERROR"] * 3
    assert reason.startswith("  (UNAVAILABLE PROVIDER_FAILED req_"), "to be looked up in the log"
    assert (as_json["code"], as_json["reason"]) == ("UNAVAILABLE", "PROVIDER_FAILED")
    # How many there are depends on the circuit breaker, which both calls feed.
    assert f"after {len(as_json['attempts'])} attempts" in as_json["message"]
    assert as_json["attempts"][0].startswith("local/m: PROVIDER_ERROR (HTTP 503)")
    assert as_json["metadata"]["request_id"].startswith("req_")
    assert "attempts_" not in as_json["metadata"]


def test_a_refused_request_is_told_to_programs_with_its_violations(shop: Callable[..., Result]) -> None:
    refused = json.loads(told(shop("--json", "providers", "create", "second", "--base-url", "nonsense")))["error"]

    assert refused["code"] == "INVALID_ARGUMENT"
    assert "base_url" in refused["violations"][0]["field"]


def test_a_command_that_is_proposed_can_be_run_as_it_stands(shop: Callable[..., Result], llm_url: str) -> None:
    done(shop("providers", "create", "local", "--base-url", llm_url))
    made = done(shop("deployments", "create", "guide", "--provider", "local", "--model", "m"))

    assert made.rstrip().endswith(f"try: {program()} run guide")


def test_what_was_called_is_in_stats_and_logs(shop: Callable[..., Result], llm_url: str) -> None:
    served(shop, llm_url)
    for _ in range(3):
        done(shop("run", "guide", "-v", "country=France", "Hello"))

    found = counted(shop, 3)

    assert {row["deployment_slug"] for row in found["rows"]} == {"guide"}
    shown = [line.split() for line in done(shop("stats", "guide", "--hours", "1")).splitlines()]
    assert shown[0][:6] == ["deployment", "variant", "requests", "errors", "cancelled", "lost"]
    # The one that `served` made, which asked without the variable, was refused before it was assigned a variant.
    assert ["guide", "variant-1", "3", "0", "0", "0"] in [line[:6] for line in shown]
    assert ["guide", "(none)", "1", "1", "0", "0"] in [line[:6] for line in shown]
    assert shown[-1][0] == "total"
    logs = answer(shop, "logs", "guide", "--variant", "variant-1")
    assert answer(shop, "logs", "guide/variant-1") == logs
    assert [log["request"]["status"] for log in logs] == ["REQUEST_STATUS_OK"] * 3
    assert len(answer(shop, "logs", "guide", "--limit", "2")) == 2
    assert {log["request"]["reason"] for log in answer(shop, "logs", "guide", "--errors")} == {"MISSING_VARIABLES"}
    assert done(shop("logs", "--errors")).count("ERROR MISSING_VARIABLES") == 1


def test_a_call_that_was_given_up_is_not_an_error(shop: Callable[..., Result], tmp_path: Path) -> None:
    with upstream(tmp_path / "slow", "--latency-ms", "20000") as base_url:
        served(shop, base_url)

        assert "DEADLINE_EXCEEDED" in told(shop("run", "guide", "-v", "country=F", "--timeout-seconds", "0.7"))

        deadline = time.monotonic() + 20
        # The error is the one that `served` made, which asked without the variable.
        while ["total", "2", "1", "1", "0"] not in [line.split()[:5] for line in done(shop("stats")).splitlines()]:
            assert time.monotonic() < deadline, done(shop("stats"))


def test_a_key_is_printed_alone_works_and_ends_when_revoked(shop: Callable[..., Result], llm_url: str) -> None:
    served(shop, llm_url)

    made = shop("keys", "create", "[blue]robot[/blue]")
    key = done(made)

    uid, _ = keys.parse(key.rstrip("\n"))
    assert key.count("\n") == 1
    assert "shown once" in made.stderr
    assert "[blue]robot[/blue]" in done(shop("keys", "list"))
    assert key.strip() not in shop("keys", "list").stdout
    deadline = time.monotonic() + 5
    while "KEY_UNKNOWN" in (first := shop("run", "guide", "-v", "country=F", TURNOUT_API_KEY=key.strip())).stderr:
        assert time.monotonic() < deadline
    assert done(first)
    assert "PERMISSION_DENIED" in told(shop("keys", "list", TURNOUT_API_KEY=key.strip()))

    assert "revoked" in done(shop("keys", "revoke", uid))
    deadline = time.monotonic() + 5
    while (refused := shop("run", "guide", "-v", "country=F", TURNOUT_API_KEY=key.strip())).exit_code == 0:
        assert time.monotonic() < deadline
    assert "UNAUTHENTICATED" in told(refused)
    assert "everything" in told(shop("keys", "create", "x", "--scope", "everything"))


def test_a_recommender_goes_from_a_file_to_an_answer(shop: Callable[..., Result], tmp_path: Path) -> None:
    rows = [f"u{user},i{item}" for user in range(20) for item in range(15) if (user * 7 + item * 3) % 4 == 0]
    (tmp_path / "rows.csv").write_text("user_id,item_id\n" + "\n".join(rows) + "\n")
    for algorithm in ("als", "popularity"):
        done(shop("train", str(tmp_path / "rows.csv"), "--algorithm", algorithm, "--name", algorithm))
    numbers = {model["display_name"]: model["number"] for model in answer(shop, "models", "list")}
    als, popular = numbers["als"], numbers["popularity"]

    made = done(shop("deployments", "create", "things", "--slot", f"{als}=90", "--slot", f"{popular}=10"))
    assert "recommend things some-user" in made
    deadline = time.monotonic() + 10
    while (first := shop("recommend", "things", "u3", "-n", "3")).exit_code:
        assert "Traceback" not in first.stderr
        assert time.monotonic() < deadline, first.stderr
    assert len(first.stdout.splitlines()) == 4
    assert "the user is unknown" in shop("recommend", "things", "nobody").stderr

    done(shop("deployments", "update", "things", f"model-{popular}", "--weight", "30", "--description", "more"))
    assert "model=weight" in shop("deployments", "create", "x", "--slot", f"{als}=much").stderr
    neither = shop("deployments", "create", "x")
    assert (neither.exit_code, "--slot" in neither.stderr) == (2, True)


def test_a_deployments_history_is_shown_compared_and_gone_back_to(shop: Callable[..., Result], llm_url: str) -> None:
    served(shop, llm_url)
    done(shop("deployments", "update", "guide", "variant-1", "--weight", "50", "--description", "half of it"))
    done(shop("deployments", "update", "guide", "variant-1", "--weight", "7", "--draft"))

    draft, half, first = done(shop("deployments", "history", "guide")).splitlines()[1:]
    assert draft.startswith("1.2 (draft)")
    assert "half of it" in half
    assert first.startswith("1.0")
    assert done(shop("deployments", "diff", "guide", "1.0")) == "variants[variant-1].weight changes from 100 to 50\n"
    assert "live → 1.2" in done(shop("deployments", "alias", "guide", "live", "1.2"))
    assert "live → 1.3" in done(shop("deployments", "rollback", "guide", "1.0"))
    assert done(shop("deployments", "diff", "guide", "1.0")) == "they are equal\n"
    assert "staging → 1.1" in done(shop("deployments", "alias", "guide", "staging", "1.1"))
    assert "staging" not in done(shop("deployments", "alias", "guide", "staging", "--delete"))
    assert "archived" in done(shop("deployments", "archive", "guide"))
    assert "DEPLOYMENT_ARCHIVED" in told(shop("deployments", "update", "guide", "variant-1", "--weight", "1"))
    assert "guide" not in done(shop("deployments", "list"))
    assert "live → 1.3" in done(shop("deployments", "unarchive", "guide"))


def test_an_empty_list_says_why_and_what_to_do(shop: Callable[..., Result], llm_url: str) -> None:
    for noun in ("deployments", "providers", "prompts"):
        assert f"{noun} create --help" in shop(noun, "list").stderr
    assert "train --help" in shop("models", "list").stderr
    assert "nothing waits" in shop("changes", "list").stderr
    assert "no change was rejected" in shop("changes", "list", "--state", "rejected").stderr
    assert "no such requests" in shop("logs").stderr
    served(shop, llm_url)

    missed = shop("deployments", "list", "--filter", "guide zebra")

    assert "no deployment has all of the words 'guide zebra'" in missed.stderr
    assert "--archived" in missed.stderr
    assert answer(shop, "deployments", "list", "--filter", "zebra") == []
    assert shop("deployments", "list", "--filter", "guide").stderr == ""


def test_logs_and_stats_take_no_name_that_says_more_than_they_show(shop: Callable[..., Result]) -> None:
    for words in (("logs", "guide:staging"), ("stats", "guide:staging"), ("stats", "guide/variant-1")):
        refused = shop(*words)
        assert (refused.exit_code, "give" in refused.stderr) == (2, True)
