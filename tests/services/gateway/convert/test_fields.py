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
