"""The benchmark of routing: it runs, and it fails when another rule matches than was meant."""

from __future__ import annotations

import json
import sys

import pytest

from bench import routing


def test_it_measures_every_kind_of_decision_and_of_plan(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["routing", "--decisions", "20", "--plans", "20"])

    assert routing.main() == 0

    told = capfd.readouterr().out
    for name in ("no rules, no context", "5 rules, the first matches", "50 rules, none matches", *routing.KINDS):
        [line] = [line for line in told.splitlines() if line.startswith(f"{name}  ")]
        figures = line.removeprefix(name).replace(",", "").split()
        assert float(figures[-1]) > 0


async def test_it_fails_if_another_rule_matches_than_was_meant() -> None:
    context = json.dumps({"country": "ES"})

    with pytest.raises(AssertionError, match="another rule"):
        await routing.decisions("wrong", 1, rules=5, matching=None, context=context)
