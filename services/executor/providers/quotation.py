"""A provider's own words in errors: cut, and without the credential and what the call said. Pure; for failures only.

Providers repeat what they refuse, in whole or in part. What they say of it is worth quoting; the call's texts are the
caller's alone.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Final

from completions.chat import ImagePart, Message
from kit.secrets import redact
from services.executor.domain import ProviderRequest

MAX_QUOTED_CHARACTERS: Final = 200
MAX_COMPARED_CHARACTERS: Final = 65_536
"""Of a call's texts. Beside more the provider's words are left out: comparing takes some 2 ms, 11 at worst."""
_MASK: Final = "<content>"
_MAX_READ_CHARACTERS: Final = 65_536
"""What of a provider's words is searched for the credential."""
_MAX_UNWRAPPED_CHARACTERS: Final = 4096
_LOOKED_AT_CHARACTERS: Final = 320
"""What of them is compared: enough for a quotation, also where much of it is blanked out."""
_RUN_CHARACTERS: Final = 16
"""What both say in so many characters in a row was repeated; less may be a phrase that everybody uses."""
_STRIDE: Final = 8
_PROBE_CHARACTERS: Final = _RUN_CHARACTERS - _STRIDE + 1
"""Every run of the text holds the whole of a piece so long that begins at a multiple of the stride."""
_MIN_TEXT_CHARACTERS: Final = 8
"""A whole text from so many on is blanked out, too; shorter ones are ordinary words."""
_MAX_INLINE_CHARACTERS: Final = 1024
"""Of a picture that is sent along: who repeats one begins at its beginning."""
_MIN_TOKEN_CHARACTERS: Final = 4
_TOKEN: Final = re.compile(r"[\w@.+\-]{4,}")
"""What may be a number that belongs to somebody, an address or a key, if it has a digit."""
_GROUPS: Final = re.compile(r"\d[\d ()./\-]{3,}\d")
"""A number as people write it, in groups."""
_ESCAPE: Final = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{2})|(.))")
_ESCAPED: Final = {"n": " ", "r": " ", "t": " "}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_MAX_ESCAPES: Final = 4000
_MAX_WRAPPINGS: Final = 3
"""How often words may be written as JSON, as Python or for HTML, one within the other."""
_DIGIT: Final = re.compile(r"\d")


def quoted(words: str, request: ProviderRequest) -> str:
    """A provider's words as the end of a sentence; empty if there is nothing to quote.

    Blanked out is every run of :data:`_RUN_CHARACTERS` that a text of the call has too, every word of four characters
    with a digit and every group of digits that stands there, and every whole text, however these are escaped. Texts are
    those of its messages, and arguments of tool calls.
    """
    credentials = () if request.credential is None else (request.credential,)
    words = redact(words[:_MAX_READ_CHARACTERS], credentials)[:_MAX_UNWRAPPED_CHARACTERS]
    words = _plain(redact(_unwrapped(words), credentials))
    if not words or (texts := _texts_of(request.messages)) is None:
        return ""
    looked_at = words[:_LOOKED_AT_CHARACTERS]
    spans = _repeated(looked_at, texts)
    if len(words) > len(looked_at):
        # What is cut in two at the end is not found there.
        spans.append((_LOOKED_AT_CHARACTERS - _RUN_CHARACTERS, _LOOKED_AT_CHARACTERS))
    words = _without(looked_at, spans)
    if len(words) > MAX_QUOTED_CHARACTERS:
        words = words[: MAX_QUOTED_CHARACTERS - 1] + "…"
    return f': "{words}"'


def _unwrapped(text: str) -> str:
    """What escapes mean."""
    for _ in range(_MAX_WRAPPINGS):
        if "\\" not in text and "&" not in text:
            break
        before, text = text, html.unescape(_ESCAPE.sub(_meant, text))
        if text == before:
            break
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _meant(escape: re.Match[str]) -> str:
    if code := escape[1] or escape[2]:
        return chr(int(code, 16))
    return _ESCAPED.get(escape[3], escape[3])


def _plain(text: str) -> str:
    """Without line breaks and whatever else does not print: the two sides need not agree on those."""
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return " ".join("".join([character if character.isprintable() else " " for character in text]).split())


def _texts_of(messages: Sequence[Message]) -> list[str] | None:
    """What the call says, text by text; None if it is too much to compare."""
    texts, size, escapes = [], 0, 0
    for message in messages:
        for text in _texts(message):
            size += len(text)
            escapes += text.count("\\") + text.count("&")
            if size > MAX_COMPARED_CHARACTERS or escapes > _MAX_ESCAPES:
                return None
            texts.append(_plain(_unwrapped(text)))
    return texts


def _texts(message: Message) -> Iterator[str]:
    yield message.content
    yield message.name
    yield message.reasoning
    for part in message.parts:
        if not isinstance(part, ImagePart):
            yield part.text
        else:
            yield part.url[:_MAX_INLINE_CHARACTERS] if part.url[:5].lower() == "data:" else part.url
    for call in message.tool_calls:
        yield call.arguments_json
        yield call.extra_content_json


def _repeated(words: str, texts: Sequence[str]) -> list[tuple[int, int]]:
    """Where the provider says what the call said: from, to."""
    # No run goes across: what is made plain has no such character.
    text = " \0 ".join(["", *texts, ""])
    found = _runs(words, text)
    # What is longer is found as runs.
    found |= {each for each in texts if _MIN_TEXT_CHARACTERS <= len(each) < _RUN_CHARACTERS}
    found |= {token for token in _tokens(words) if token in text}
    return [span for each in found for span in _places(each, words)]


def _runs(words: str, text: str) -> set[str]:
    """Every run of :data:`_RUN_CHARACTERS` that both have."""
    runs = {words[at : at + _RUN_CHARACTERS] for at in range(len(words) - _RUN_CHARACTERS + 1)}
    probes = {words[at : at + _PROBE_CHARACTERS] for at in range(len(words) - _PROBE_CHARACTERS + 1)}
    found, seen = set(), set()
    for at in range(0, len(text), _STRIDE):
        if text[at : at + _PROBE_CHARACTERS] in probes:
            around = text[max(0, at - _STRIDE + 1) : at + _RUN_CHARACTERS]
            # A text may say the same again and again.
            if around not in seen:
                seen.add(around)
                found |= runs & {around[start : start + _RUN_CHARACTERS] for start in range(_STRIDE)}
    return found


def _tokens(text: str) -> Iterator[str]:
    """What may be somebody's number: with the signs around it and without, and without a name (`id_78051`)."""
    for token in _TOKEN.findall(text):
        for each in {token, *token.split("_")}:
            for way in {each, each.strip("@.+-")}:
                if _MIN_TOKEN_CHARACTERS <= len(way) < _RUN_CHARACTERS and _DIGIT.search(way):
                    yield way
    yield from _GROUPS.findall(text)


def _places(needle: str, words: str) -> Iterator[tuple[int, int]]:
    """Every place, overlapping ones too."""
    at = words.find(needle)
    while at >= 0:
        yield at, at + len(needle)
        at = words.find(needle, at + 1)


def _without(words: str, spans: list[tuple[int, int]]) -> str:
    pieces: list[str] = []
    kept_to = 0
    for start, end in sorted(spans):
        if start > kept_to or not kept_to:
            pieces += (words[kept_to:start], _MASK)
        kept_to = max(kept_to, end)
    pieces.append(words[kept_to:])
    return "".join(pieces)
