from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import pytest

from cli import words
from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import deployment_pb2, provider_pb2


@pytest.mark.parametrize(
    ("known", "contract"),
    [
        (words.PROVIDER_KINDS, provider_pb2.ProviderKind),
        (words.OUTPUT_POLICIES, deployment_pb2.OutputPolicy),
        (words.UNKNOWN_USERS, deployment_pb2.UnknownUsers),
        (words.ROLES, message_pb2.Role),
    ],
)
def test_every_value_of_a_contract_has_a_word_and_back(known: Mapping[StrEnum, int], contract: Any) -> None:
    assert sorted(known.values()) == sorted(number for number in contract.values() if number)
    assert [words.word(known, number) for number in known.values()] == [str(each) for each in known]


def test_a_value_that_is_not_known_yet_is_its_number() -> None:
    assert words.word(words.ROLES, 99) == "99"
