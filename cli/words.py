"""What people call the values of the contracts' enums: the same words on the command line and in files."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from turnout.chat.v1 import message_pb2
from turnout.registry.v1 import deployment_pb2, provider_pb2, routing_pb2

Word = TypeVar("Word", bound=StrEnum)


class ProviderKind(StrEnum):
    """A provider's wire contract."""

    OPENAI = "openai"
    OPENAI_COMPATIBLE = "openai-compatible"
    ANTHROPIC = "anthropic"
    OLLAMA = "ollama"


class OutputPolicy(StrEnum):
    """What becomes of an answer that does not keep to its JSON schema."""

    MARK = "mark"
    RETRY = "retry"
    FAIL = "fail"


class UnknownUsers(StrEnum):
    """What users get whom a recommender does not know."""

    POPULAR = "popular"
    REFUSE = "refuse"


class Role(StrEnum):
    """Who says a message."""

    SYSTEM = "system"
    DEVELOPER = "developer"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class StructuredOutput(StrEnum):
    """What a model takes of a version's response format."""

    JSON_SCHEMA = "json_schema"
    JSON_OBJECT = "json_object"
    TEXT = "text"


class FieldKind(StrEnum):
    """What a field holds that rules ask about."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    LIST = "list"


# Words are equal to, and found as, their texts.
PROVIDER_KINDS: Final = {word: provider_pb2.ProviderKind.Value(f"PROVIDER_KIND_{word.name}") for word in ProviderKind}
OUTPUT_POLICIES: Final = {
    word: deployment_pb2.OutputPolicy.Value(f"OUTPUT_POLICY_{word.name}") for word in OutputPolicy
}
STRUCTURED_OUTPUTS: Final = {
    word: provider_pb2.StructuredOutput.Value(f"STRUCTURED_OUTPUT_{word.name}") for word in StructuredOutput
}
UNKNOWN_USERS: Final = {word: deployment_pb2.UnknownUsers.Value(f"UNKNOWN_USERS_{word.name}") for word in UnknownUsers}
FIELD_KINDS: Final = {word: routing_pb2.FieldKind.Value(f"FIELD_KIND_{word.name}") for word in FieldKind}
ROLES: Final = {word: message_pb2.Role.Value(f"ROLE_{word.name}") for word in Role}


def word(words: Mapping[Word, int], number: int) -> str:
    """The inverse; the number itself if a newer server has one that has no word here."""
    return next((word.value for word, known in words.items() if known == number), str(number))
