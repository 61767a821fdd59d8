from __future__ import annotations

import pytest

from kit.errors import Invalid
from services.router import inputs
from services.router.domain import Unit


@pytest.mark.parametrize("name", ["routing_key", "identity", "thread", "user", "request_id"])
def test_a_text_that_no_log_can_keep_is_refused_with_its_path(name: str) -> None:
    inputs.check_texts(Unit(**{name: "fine"}))
    with pytest.raises(Invalid) as failure:
        inputs.check_texts(Unit(**{name: "\0"}), "calls[1].")
    assert [violation.field for violation in failure.value.violations] == [f"calls[1].{name}"]
