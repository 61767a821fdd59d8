from __future__ import annotations

import pytest
from pydantic import Field, SecretStr

from kit import config
from kit.config import BadConfig, Settings, settings_config


class ExampleConfig(Settings):
    model_config = settings_config("TURNOUT_EXAMPLE_")

    timeout_seconds: float = Field(5, gt=0)
    password: SecretStr = SecretStr("")
    name: str


def test_settings_come_from_variables_with_the_rooms_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOUT_EXAMPLE_NAME", "n")
    monkeypatch.setenv("TURNOUT_EXAMPLE_TIMEOUT_SECONDS", "2.5")

    assert config.load(ExampleConfig).timeout_seconds == 2.5


def test_bad_settings_are_named_without_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOUT_EXAMPLE_TIMEOUT_SECONDS", "-12345")

    with pytest.raises(BadConfig) as failure:
        config.load(ExampleConfig)

    assert "TURNOUT_EXAMPLE_TIMEOUT_SECONDS: " in str(failure.value)
    assert "TURNOUT_EXAMPLE_NAME: is not set" in str(failure.value)
    assert "12345" not in str(failure.value)


def test_described_settings_hide_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNOUT_EXAMPLE_NAME", "n")
    monkeypatch.setenv("TURNOUT_EXAMPLE_PASSWORD", "hunter2")

    shown = config.describe([config.load(ExampleConfig)])

    assert shown["TURNOUT_EXAMPLE_PASSWORD"] == "<secret>"
    assert "hunter2" not in str(shown)


def test_settings_cannot_change() -> None:
    loaded = ExampleConfig(name="n")

    with pytest.raises(ValueError, match="frozen"):
        loaded.name = "other"  # type: ignore[misc]  # the point of the test


def test_variables_that_nobody_reads_are_found() -> None:
    assert config.unknown_variables([ExampleConfig], {"TURNOUT_EXAMPLE_NAME": "", "TURNOUT_EXMAPLE_NAME": ""}) == [
        "TURNOUT_EXMAPLE_NAME"
    ]
