"""Fields that hold secrets are marked, so that no tool prints them."""

from __future__ import annotations

from turnout.registry.v1 import api_key_pb2, provider_pb2


def test_fields_with_secrets_are_redacted_by_debug_output() -> None:
    assert provider_pb2.Provider.DESCRIPTOR.fields_by_name["credential"].GetOptions().debug_redact
    assert api_key_pb2.ApiKey.DESCRIPTOR.fields_by_name["key"].GetOptions().debug_redact
