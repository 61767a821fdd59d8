"""The vocabulary of OpenAI's models, where the optional `bpe-openai` is installed.

It takes 0.6 s and 130 MB to load, so an installation wants it only if its prompts come close to their windows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final

_ENCODING: Final = "o200k_base"
_FAMILIES: Final = ("gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "chatgpt-", "o1", "o3", "o4", "gpt-oss", "codex-")
_PIECE: Final = 1 << 16
"""Characters that are encoded at once; a cut adds a token at most."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Counts tokens exactly, but for one more per 64 Ki characters."""

    encode: Callable[[str], list[int]]

    def count(self, text: str) -> int:
        """Tokens of a text. What looks like a control token is text."""
        if len(text) <= _PIECE:
            return len(self.encode(text))
        return sum(len(self.encode(text[start : start + _PIECE])) for start in range(0, len(text), _PIECE))


def is_installed() -> bool:
    """Whether :func:`load` will succeed."""
    return find_spec("bpe_openai") is not None


def load() -> Vocabulary:
    """The vocabulary of OpenAI's models since GPT-4o. Blocks for 0.6 s: call it in a thread, when a process starts.

    :raises ImportError: if `bpe-openai` is not installed
    """
    # Late, and by name: it is optional.
    from importlib import import_module

    library: Any = import_module("bpe_openai")  # it has no types
    encoding: Any = library.get_encoding(_ENCODING)
    encode: Callable[[str], list[int]] = encoding.encode_ordinary
    # The first text builds tables that the others use.
    encode("one")
    return Vocabulary(encode)


def speaks(model: str) -> bool:
    """Whether a model of OpenAI uses that vocabulary; fine-tuned ones too. Of other providers' models none does."""
    return model.removeprefix("ft:").startswith(_FAMILIES)
