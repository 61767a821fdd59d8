"""Every setting is written down where an operator looks for it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from kit import config
from services.__main__ import SERVICES, _settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("room", SERVICES)
def test_a_rooms_readme_lists_its_settings(room: str) -> None:
    settings = import_module(f"services.{room}.config").SETTINGS
    text = (ROOT / "services" / room / "README.md").read_text()

    assert [name for name in config.variables(settings) if name not in text] == []


def test_the_settings_of_a_process_are_listed() -> None:
    text = (ROOT / "docs" / "settings.md").read_text()
    rooms = {import_module(f"services.{room}.config").SETTINGS for room in SERVICES}

    shared = [settings for settings in _settings(SERVICES) if settings not in rooms]
    assert [name for settings in shared for name in config.variables(settings) if name not in text] == []


def test_every_setting_carries_our_prefix() -> None:
    for settings in _settings(SERVICES):
        assert all(name.startswith("TURNOUT_") for name in config.variables(settings))
