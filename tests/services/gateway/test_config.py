from __future__ import annotations

import pytest

from kit import config
from kit.config import BadConfig
from services.gateway.config import MAX_BODY_BYTES, GatewayConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LISTEN_ADDRESS", "8080"),
        ("MAX_BODY_BYTES", str(MAX_BODY_BYTES + 1)),
        ("MAX_CONCURRENT_REQUESTS", "0"),
        ("READ_TIMEOUT_SECONDS", "0"),
        ("KEEP_ALIVE_SECONDS", "-1"),
    ],
)
def test_a_bad_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"TURNOUT_GATEWAY_{name}", value)
    with pytest.raises(BadConfig, match=f"TURNOUT_GATEWAY_{name}"):
        config.load(GatewayConfig)
