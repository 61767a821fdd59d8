"""Which attempts were calls; the reasons are the executor's."""

from __future__ import annotations

import pytest

from services.attempts import asked_nobody
from services.executor.domain import Reason

UNASKED = (Reason.CIRCUIT_OPEN, Reason.BUSY, Reason.CREDENTIAL_MISSING)
EITHER = (Reason.CREDENTIAL_REFUSED, Reason.ADDRESS_REFUSED, Reason.REJECTED_REQUEST)


@pytest.mark.parametrize("reason", list(Reason))
def test_an_attempt_without_a_status_asked_nobody_if_its_reason_is_our_own(reason: Reason) -> None:
    assert asked_nobody(reason.value, 0) is (reason in UNASKED + EITHER)


@pytest.mark.parametrize("reason", EITHER)
def test_what_a_provider_answered_was_asked(reason: Reason) -> None:
    assert not asked_nobody(reason.value, 400)


def test_a_success_and_a_reason_of_a_later_release_were_calls() -> None:
    assert not asked_nobody("", 200)
    assert not asked_nobody("OF_A_LATER_RELEASE", 0)
