"""The benchmark of the catalog: it runs, and says what it measured."""

from __future__ import annotations

import sys

import pytest

from bench import catalog


@pytest.mark.slow
def test_it_measures_a_small_catalog(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    small = ["--deployments", "20", "--changes", "5", "--processes", "1", "--repeats", "1"]
    monkeypatch.setattr(sys, "argv", ["catalog", *small])

    assert catalog.main() in (0, 1), "whether its goals are reached is not the question here"

    told = capfd.readouterr().out
    assert "20 deployments × 5 variants" in told
    assert "5 changes" in told
