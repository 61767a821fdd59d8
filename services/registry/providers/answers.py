"""What each kind of provider answers, as models. Pure; every text of theirs is taken for hostile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from kit.json import Json
from services.registry.domain import ProviderKind, ProviderModel

MAX_NAME_CHARACTERS: Final = 256
"""As many as a version's model may have."""
_MAX_DISPLAY_NAME_CHARACTERS: Final = 200
_MAX_TOKENS: Final = 1 << 40
_CONTEXT_WORDS: Final = ("context_window", "context_length", "max_context_length", "max_model_len", "max_input_tokens")
"""OpenAI says nothing of it; these are Groq's, OpenRouter's, Mistral's, vLLM's and Anthropic's words."""


class Unreadable(Exception):
    """An answer that is no list of models; the text says what is wrong, in our own words."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One page of a list."""

    models: tuple[ProviderModel, ...]
    next_page: str = ""
    """What asks for the page behind it; empty if it is the last."""


Read: TypeAlias = Callable[[Json], Answer]


def openai(document: Json) -> Answer:
    """`{"data": [{"id": …}]}`; some compatible servers answer the bare list."""
    entries = document if isinstance(document, list) else _list(document, "data")
    return Answer(tuple(_models(entries, "id")))


def anthropic(document: Json) -> Answer:
    """`{"data": [{"id": …}], "has_more": …, "last_id": …}`."""
    models = tuple(_models(_list(document, "data"), "id"))
    has_more = isinstance(document, dict) and document.get("has_more") is True
    return Answer(models, models[-1].model if has_more and models else "")


def ollama(document: Json) -> Answer:
    """`{"models": [{"name": …}]}`."""
    return Answer(tuple(_models(_list(document, "models"), "name")))


READ: Final[Mapping[ProviderKind, Read]] = {
    ProviderKind.OPENAI: openai,
    ProviderKind.OPENAI_COMPATIBLE: openai,
    ProviderKind.ANTHROPIC: anthropic,
    ProviderKind.OLLAMA: ollama,
}


def _list(document: Json, name: str) -> list[Json]:
    found = document.get(name) if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise Unreadable(f"it has no list {name!r}")
    return found


def _models(entries: list[Json], name: str) -> Iterator[ProviderModel]:
    for number, entry in enumerate(entries, start=1):
        model = entry.get(name) if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(model, str) or not 0 < len(model) <= MAX_NAME_CHARACTERS:
            raise Unreadable(f"its entry {number} has no {name!r} of 1 to {MAX_NAME_CHARACTERS} characters")
        if not model.isprintable():
            raise Unreadable(f"the {name!r} of its entry {number} has characters that cannot be shown")
        display_name = entry.get("display_name")
        yield ProviderModel(
            model=model,
            display_name=_shown(display_name) if isinstance(display_name, str) else "",
            created_at=_time(entry.get("created"), entry.get("created_at")),
            context_window_tokens=_tokens(entry),
        )


def _shown(text: str) -> str:
    kept = text[:_MAX_DISPLAY_NAME_CHARACTERS]
    return kept if kept.isprintable() else ""


def _time(seconds: Json, text: Json) -> datetime | None:
    """1970 is what providers write for a time that they do not know."""
    try:
        if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds > 0:
            return datetime.fromtimestamp(seconds, UTC)
        if isinstance(text, str):
            found = datetime.fromisoformat(text[:64])
            found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
            return found if found.timestamp() > 0 else None
    except (ValueError, OverflowError, OSError):
        pass
    return None


def _tokens(entry: Mapping[str, Json]) -> int:
    for word in _CONTEXT_WORDS:
        value = entry.get(word)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MAX_TOKENS:
            return value
    return 0
