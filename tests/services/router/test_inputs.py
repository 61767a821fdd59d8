from __future__ import annotations

import pytest

from kit.errors import Invalid
from services.router import inputs
from services.router.domain import Unit


@pytest.mark.parametrize("name", ["routing_key", "identity", "thread", "user"])
def test_a_text_that_no_log_can_keep_is_refused_with_its_path(name: str) -> None:
    inputs.check_texts(Unit(**{name: "fine"}))
    with pytest.raises(Invalid) as failure:
        inputs.check_texts(Unit(**{name: "\0"}), "calls[1].")
    assert [violation.field for violation in failure.value.violations] == [f"calls[1].{name}"]


@pytest.mark.parametrize("wrong", ["\0", "mine", "req_", "req_1", "var_" + "0" * 26, "req_" + "8" + "0" * 25])
def test_a_request_that_is_named_by_no_id_is_refused_with_its_path(wrong: str) -> None:
    inputs.check_texts(Unit(request_id="req_" + "0" * 26))
    with pytest.raises(Invalid) as failure:
        inputs.check_texts(Unit(request_id=wrong), "calls[1].")
    assert failure.value.reason == "REQUEST_MALFORMED"
    assert [violation.field for violation in failure.value.violations] == ["calls[1].request_id"]
