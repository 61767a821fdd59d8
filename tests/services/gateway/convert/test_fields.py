from __future__ import annotations

import pytest

from kit.errors import Invalid, NotFound, Violation
from services.gateway.convert import fields


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("run.messages[0].name", "messages[0].name"),
        ("messages", "messages"),
        ("messages[1].parts[2].image.url", "messages[1].content[2].image_url.url"),
        ("messages[1].tool_calls[0].tool", "messages[1].tool_calls[0].function.name"),
        ("messages[1].tool_calls[0].arguments_json", "messages[1].tool_calls[0].function.arguments"),
        ("messages[1].reasoning", "messages[1].reasoning_content"),
        ("run.deployment", "model"),
        ("deployment", "model"),
        ("deployments", "deployments"),
        ("variables.country", "input.country"),
        ("variables.parts", "input.parts"),
        ("variables_json", "input"),
        ("run.metadata_json", "metadata"),
        ("identity.id", "identity.id"),
        ("run.prefix_messages[0].parts", "prefix_messages[0].content"),
        ("run.overrides.parameters.temperature", "temperature"),
        ("overrides.parameters.max_output_tokens", "max_completion_tokens"),
        ("overrides.parameters.stop[0]", "stop[0]"),
        ("overrides.parameters.extra.seed_2", "seed_2"),
        ("overrides.parameters.extra_json", "body"),
        ("overrides.tools_json", "tools"),
        ("overrides.tools[0].function.name", "tools[0].function.name"),
        ("overrides.response_format.a", "response_format.a"),
        ("direct.tool_choice_json", "tool_choice"),
        ("direct.provider", "model"),
        ("run.direct.model", "model"),
        ("direct.messages[1].parts[0].text", "messages[1].content[0].text"),
        ("direct.parameters.seed", "seed"),
        ("variables.parameters.seed", "input.parameters.seed"),
        ("", ""),
    ],
)
def test_a_field_is_named_as_the_caller_wrote_it(field: str, param: str) -> None:
    assert fields.param_of(field) == param


def test_the_sentence_names_it_so_too_and_the_rest_of_the_error_stays() -> None:
    violations = (Violation("metadata_json", "must be short"), Violation("deployment", "must be there"))
    error = Invalid("metadata_json must be short (and 1 more)", reason="X", violations=violations, request_id="req_1")
    told = fields.in_callers_words(error)
    assert isinstance(told, Invalid)
    assert (told.message, told.reason) == ("metadata must be short (and 1 more)", "X")
    assert [each.field for each in told.violations] == ["metadata", "model"]
    assert told.metadata == {"request_id": "req_1"}
    unplaced = NotFound("no deployment", reason="X")
    assert fields.in_callers_words(unplaced) is unplaced


def test_messages_behind_those_of_a_configuration_keep_their_number() -> None:
    assert fields.param_of("run.messages[2].parts", skipped=256) == "messages[258].content"
    assert fields.param_of("direct.messages[2].parts", skipped=256) == "messages[2].content"
