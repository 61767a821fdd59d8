"""How many tokens a prompt has, at most: to know before a call whether it fits a model's context window.

Three answers, each dearer and closer than the one before. **Bytes**: no vocabulary in use makes more tokens of a text
than it has bytes, and most prompts are so far below their window that nothing else is asked. **The estimate** weighs
kinds of characters, in blocks: of English, of code, of what has no words (base64, digests), or of other languages.
**The count** of the model's own vocabulary, where it is at hand (:mod:`completions.vocabulary`).

The weights are the solution of a linear programme: the least that is nowhere below the largest of the counts that the
vocabularies cl100k_base and o200k_base (OpenAI) and that of Qwen (which writes each digit alone) give for texts in 40
languages, code, data and noise; then rounded up by 3 to 8 %. On English prose it is 1.0 to 1.3 times the count,
elsewhere up to 1.9 times. It can be below the count by a tenth in languages of which vocabularies know few words, and
by a third in scripts that they spell byte by byte, such as Armenian and Ethiopic: then the provider tells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from completions.chat import ImagePart, Message, TextPart

_BLOCK_BYTES: Final = 4096
_PER_MESSAGE: Final = 8
"""Its role and the marks around it; 3 or 4 for OpenAI, 5 for Llama."""
_PER_PROMPT: Final = 16
"""What begins a prompt and the answer."""
_PER_TOOL: Final = 16
_PER_TOOLS: Final = 400
"""What a provider itself says of how tools are called; Anthropic documents up to 346."""
_EXACT_BYTES: Final = 512 << 10
"""The largest prompt that is counted: at 30 MB/s it holds up the event loop for 17 ms."""


@dataclass(frozen=True, slots=True)
class TokenRules:
    """What a provider's models make of a prompt, by its own rule of thumb."""

    image: int
    """Tokens of a picture, whose size is not known, at most."""
    image_of_low_detail: int
    scale: float = 1.0
    """How many tokens its vocabulary makes where the estimate's make one."""


class Counter(Protocol):
    """Counts tokens with a model's own vocabulary."""

    def count(self, text: str) -> int:
        """Tokens of a text."""
        ...


def fits(
    messages: Sequence[Message], *, fixed: int, room: int, rules: TokenRules, counter: Counter | None = None
) -> bool:
    """Whether a prompt surely fits, asking no more than is needed to know.

    :param fixed: tokens of what else is sent, such as :func:`of_tools`, and of the answer
    :param room: the context window, in tokens
    :param counter: of the model's vocabulary, if there is one
    """
    left = room - fixed
    if left <= 0:
        return False
    size = most(messages, rules)
    if size <= left:
        return True
    if estimate(messages, rules) <= left:
        return True
    if counter is None or size > _EXACT_BYTES:
        return False
    return _besides(messages, rules) + sum(map(counter.count, _texts(messages))) <= left


def most(messages: Sequence[Message], rules: TokenRules) -> int:
    """A bound that no vocabulary exceeds: a token a byte."""
    return _besides(messages, rules) + sum(map(_size, _texts(messages)))


def estimate(messages: Sequence[Message], rules: TokenRules) -> int:
    """About how many tokens a prompt has, rather too many than too few."""
    return _besides(messages, rules) + math.ceil(rules.scale * sum(map(of_text, _texts(messages))))


def most_of_tools(text: str) -> int:
    """The bound for tools, as :func:`most`; 0 for none.

    :param text: the JSON of the list of tools
    """
    return _PER_TOOLS + _PER_TOOL * text.count('"name"') + _size(text) if text else 0


def of_tools(text: str, rules: TokenRules) -> int:
    """The estimate for tools; 0 for none.

    :param text: the JSON of the list of tools
    """
    return _PER_TOOLS + _PER_TOOL * text.count('"name"') + math.ceil(rules.scale * of_text(text)) if text else 0


def of_text(text: str) -> int:
    """The same of one text, as the vocabularies named above have it."""
    data = text.encode("utf-8", "surrogatepass")
    if len(data) <= _BLOCK_BYTES:
        return _of_block(data)
    return sum(_of_block(data[start : start + _BLOCK_BYTES]) for start in range(0, len(data), _BLOCK_BYTES))


def _besides(messages: Sequence[Message], rules: TokenRules) -> int:
    """What a prompt has besides its texts. A picture's `data:` URL is no text."""
    tokens = _PER_PROMPT + _PER_MESSAGE * len(messages)
    for message in messages:
        if message.parts:
            tokens += sum(
                rules.image_of_low_detail if part.detail == "low" else rules.image
                for part in message.parts
                if isinstance(part, ImagePart)
            )
        if message.tool_calls:
            tokens += _PER_TOOL * len(message.tool_calls)
    return tokens


def _texts(messages: Sequence[Message]) -> Iterator[str]:
    for message in messages:
        yield message.content
        if message.parts:
            for part in message.parts:
                if isinstance(part, TextPart):
                    yield part.text
        if message.name:
            yield message.name
        if message.tool_call_id:
            yield message.tool_call_id
        if message.reasoning:
            yield message.reasoning
        for call in message.tool_calls:
            yield call.id
            yield call.name
            yield call.arguments_json
            yield call.extra_content_json


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class _Weights:
    """Tokens for each of a block's ASCII characters, in thousandths."""

    lower: int
    upper: int
    digit: int
    space: int
    line: int
    """Line feeds and tabs too."""
    sign: int
    run: int
    """For each run of letters and digits."""


_ENGLISH: Final = _Weights(lower=110, upper=140, digit=1200, space=360, line=370, sign=420, run=535)
_DENSE: Final = _Weights(lower=555, upper=850, digit=1120, space=60, line=500, sign=560, run=0)
_CODE: Final = _Weights(lower=210, upper=250, digit=1150, space=60, line=1000, sign=690, run=930)
_OTHER: Final = _Weights(lower=425, upper=565, digit=1270, space=60, line=1000, sign=510, run=50)
_WIDE: Final = (
    # Bytes that begin a character of several, as UTF-8 has them by script, and the same for the character.
    (b"\xc0", 1190),  # Latin, Greek, Cyrillic
    (b"\xd0", 850),  # Cyrillic, Armenian, Hebrew, Arabic
    (b"\xe0", 1460),  # Indic, Thai, Georgian
    (b"\xe2", 1540),  # signs
    (b"\xe3", 1510),  # Chinese, Japanese
    (b"\xea", 1360),  # Korean
    (b"\xee", 1100),
    (b"\xf0", 3050),  # emoji
)
_FREQUENT: Final = (b" of ", b" and ", b" to ", b" for ", b" with ")
_THE_SHARE: Final = 0.015
_ENGLISH_SHARE: Final = 0.06
"""Of a block's words, how many are "the" or frequent as well: in English prose one in seven. Words that are frequent in
other languages too, such as "a", "in" and "is", say nothing."""
_MIN_WORDS: Final = 20
_LONG_RUN: Final = 14
"""Letters and digits on end: the mean of no language and no code is so long."""


def _class_of(byte: int) -> int:
    character = chr(byte)
    if byte >= 0xC0:
        return max(first[0] for first, _ in _WIDE if first[0] <= byte)
    if byte >= 0x80:
        return 0x80
    if character.isalpha():
        return ord("a" if character.islower() else "A")
    return ord("0" if character.isdigit() else character if character == " " else "n" if character in "\t\r\n" else ".")


_CLASSES: Final = bytes(map(_class_of, range(256)))
_RUNS: Final = bytes(ord("a") if byte >= 0x80 or chr(byte).isalnum() else ord(" ") for byte in range(256))


def _of_block(block: bytes) -> int:
    if not block:
        return 0
    classes, runs = block.translate(_CLASSES), block.translate(_RUNS)
    spaces, lines, signs = classes.count(b" "), classes.count(b"n"), classes.count(b".")
    words = runs.count(b" a") + 1
    in_words = len(block) - spaces - lines - signs
    wide = 0 if block.isascii() else sum(weight * classes.count(first) for first, weight in _WIDE)
    weights = _OTHER
    if in_words > _LONG_RUN * words and 5 * in_words > 4 * len(block):
        weights = _DENSE
    elif words >= _MIN_WORDS and _is_english(block, words):
        weights = _ENGLISH
    elif 10 * signs > len(block):
        weights = _CODE
    thousandths = (
        weights.lower * classes.count(b"a")
        + weights.upper * classes.count(b"A")
        + weights.digit * classes.count(b"0")
        + weights.space * spaces
        + weights.line * lines
        + weights.sign * signs
        + weights.run * words
        + wide
    )
    return min(len(block), 1 + thousandths // 1000)


def _is_english(block: bytes, words: int) -> bool:
    lowered = block.lower()
    the = lowered.count(b" the ")
    return the >= _THE_SHARE * words and the + sum(map(lowered.count, _FREQUENT)) >= _ENGLISH_SHARE * words
