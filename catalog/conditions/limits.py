"""What a condition may contain, so that none costs more than some milliseconds whatever the context.

CEL bounds depth (32) and steps (10,000), but not what one step costs: over 8,000 elements `filter` and `map` take
seconds, and so does `==` between lists inside `all`; a regular expression is compiled whenever it is evaluated, up to
0.7 s for 30 characters. Hence lists and patterns are bounded here, and what a macro repeats costs next to nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

from catalog.conditions.faults import BadCondition, bad_at
from catalog.conditions.fields import FieldKind
from catalog.conditions.tokens import Kind, Token, tokens
from kit.values import Value

MAX_TEXT_BYTES = 4 << 10
"""UTF-8, of one condition."""
MAX_WORDS = 1000
"""Names, literals and signs: compiling one costs 10 to 20 µs, and keeping it 100 bytes and more."""
MAX_MACROS = 8
MAX_SEARCHES = 32
"""Uses of `contains`."""
MAX_PATTERNS = 4
MAX_PATTERN_LENGTH = 128
"""Code points, with what its counts repeat written out."""
MAX_MATCHED_LENGTH = 1024
"""Code points of a text or list that a condition with patterns looks at; more is an error when it is evaluated."""

MACROS = frozenset({"all", "exists", "exists_one"})
_FOREIGN = {"and": "&&", "or": "||", "not": "!", "None": "present.<field>", "True": "true", "False": "false"}
_CHEAP_CALLS = frozenset({"startsWith", "endsWith"})
_CONTEXT, _PRESENT = "context", "present"

_PLAIN_TEXT = re.compile(r"""[rR]?(?P<quote>"{3}|'{3}|"|')(?P<body>[\s\S]*)(?P=quote)""")
_COUNT = re.compile(r"\{([0-9]*),?([0-9]*)\}")


class Reading(Value):
    """What a condition is made of."""

    fields: tuple[str, ...]
    """Declared fields that it mentions, in order of appearance."""
    has_patterns: bool
    constants: tuple[tuple[str, str, int], ...]
    """Calls that can be tried when a condition is written, such as `timestamp("…")`: function, literal, offset."""


def read(text: str, kinds: Mapping[str, FieldKind]) -> Reading:
    """Look a condition over.

    :param kinds: the declared fields
    :raises BadCondition: for what conditions may not contain, and for fields that are not declared
    """
    _check_text(text)
    words = tokens(text)
    if len(words) > MAX_WORDS:
        message = f"a condition has at most {MAX_WORDS} words and signs, this one has {len(words)}; split the rule"
        raise bad_at(text, words[MAX_WORDS].offset, message)
    mentions = dict(_mentions(text, words, kinds))
    constants: list[tuple[str, str, int]] = []
    counts = dict.fromkeys(("contains", "matches", "macros"), 0)
    covered = 0
    for place, word in enumerate(words):
        if word.kind is Kind.SIGN and word.text in "{}`":
            raise bad_at(text, word.offset, f"conditions have no {word.text}; write lists with [ and ]")
        if advice := _habit(words, place):
            raise bad_at(text, word.offset, advice)
        if word.kind is not Kind.NAME or not _is(words, place + 1, "("):
            continue
        name = word.text
        if name in MACROS and _is(words, place - 1, "."):
            if place < covered:
                raise bad_at(text, word.offset, f"{name} may not stand inside another all, exists or exists_one")
            covered = _closing(words, place + 1)
            _check_body(text, words, range(place + 2, covered), mentions, kinds)
            counts["macros"] += 1
        elif name in ("timestamp", "duration", "matches"):
            literal = words[place + 2] if place + 2 < len(words) else word
            is_alone = literal.kind is Kind.TEXT and _is(words, place + 3, ")")
            if name == "matches":
                if not is_alone:
                    raise bad_at(text, word.offset, "matches takes one pattern, written out: matches(r'^a+$')")
                _check_pattern(text, literal)
            if is_alone:
                constants.append((name, literal.text, literal.offset))
        if name in counts:
            counts[name] += 1
    _check_counts(counts)
    if counts["macros"]:
        _check_lists(text, words, mentions, kinds)
    return Reading(tuple(dict.fromkeys(mentions.values())), bool(counts["matches"]), tuple(constants))


def repetitions(text: str) -> int:
    """How often a good condition goes through a list or runs a pattern: what takes time when it is asked."""
    words = tokens(text)
    return sum(
        word.kind is Kind.NAME
        and (word.text in MACROS or word.text == "matches")
        and _is(words, place - 1, ".")
        and _is(words, place + 1, "(")
        for place, word in enumerate(words)
    )


def _habit(words: list[Token], place: int) -> str:
    """What to write in place of a word of another language, or of CEL that conditions lack; empty for good words."""
    word = words[place]
    is_member = _is(words, place - 1, ".")
    if word.kind is Kind.NAME and not is_member and word.text in _FOREIGN:
        return f"write {_FOREIGN[word.text]} for {word.text}"
    if word.kind is Kind.NAME and word.text in ("filter", "map") and is_member and _is(words, place + 1, "("):
        return f"conditions have no {word.text}; ask with exists or all"
    return "write == to compare" if word.text == "=" and not _has_neighbour(words, place) else ""


def _has_neighbour(words: list[Token], place: int) -> bool:
    """Whether a sign is half of one such as ==."""
    offset = words[place].offset
    before = place > 0 and words[place - 1].offset == offset - 1 and words[place - 1].text in "=!<>"
    after = place + 1 < len(words) and words[place + 1].offset == offset + 1 and words[place + 1].text == "="
    return before or after


def _check_text(text: str) -> None:
    if not text.strip():
        raise BadCondition("the condition is empty; write true to match every call")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise bad_at(text, error.start, "this is half of a surrogate pair and no character; take it away") from None
    if size > MAX_TEXT_BYTES:
        raise BadCondition(f"a condition has at most {MAX_TEXT_BYTES} bytes, this one has {size}; split the rule")
    if (place := text.find("\0")) >= 0:
        raise bad_at(text, place, "conditions hold no NUL characters; take it away")


def _mentions(text: str, words: list[Token], kinds: Mapping[str, FieldKind]) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for place, word in enumerate(words):
        if word.kind is not Kind.NAME or word.text not in (_CONTEXT, _PRESENT):
            continue
        if found and found[-1][0] == place - 2 and _is(words, place - 1, "."):
            continue  # a field of that name: context.present
        name = words[place + 2] if _is(words, place + 1, ".") and place + 2 < len(words) else word
        if _is_element(words, place):
            raise bad_at(text, word.offset, f"{word.text} is taken: choose another name for the element")
        if name is word or name.kind is not Kind.NAME:
            raise bad_at(text, word.offset, f"{word.text} is followed by a dot and a field: {word.text}.country")
        if name.text not in kinds:
            near = get_close_matches(name.text[:64], kinds, n=1, cutoff=0.5)
            advice = f"did you mean {near[0]!r}?" if near else "declare it, or use one that is declared"
            raise bad_at(text, name.offset, f"there is no declared field {name.text[:64]!r}; {advice}")
        found.append((place, name.text))
    return found


def _is_element(words: list[Token], place: int) -> bool:
    """Whether a name is that of the element that a macro looks at: `exists(name, …)`."""
    is_macro = place >= 2 and words[place - 2].text in MACROS and _is(words, place - 1, "(")
    return is_macro and _is(words, place - 3, ".") and _is(words, place + 1, ",")


def _check_body(
    text: str, words: list[Token], body: range, mentions: Mapping[int, str], kinds: Mapping[str, FieldKind]
) -> None:
    """What a macro repeats may not search anything long."""
    has_text = False
    for place in body:
        if words[place].text != _CONTEXT or place not in mentions:
            continue
        kind = kinds[mentions[place]]
        if kind is FieldKind.LIST:
            raise bad_at(text, words[place].offset, "a list field may not stand inside all, exists or exists_one")
        has_text = has_text or kind is FieldKind.STRING
    for place in body:
        word = words[place]
        if word.kind is not Kind.NAME:
            continue
        is_call = _is(words, place + 1, "(")
        if word.text == "matches" and is_call:
            raise bad_at(text, word.offset, "matches may not stand inside all, exists or exists_one")
        if has_text and (word.text == "in" or (is_call and word.text not in _CHEAP_CALLS)):
            raise bad_at(
                text,
                word.offset,
                f"{word.text} may not stand beside a string field inside all, exists or exists_one; "
                "startsWith, endsWith and comparisons may",
            )


def _check_lists(text: str, words: list[Token], mentions: Mapping[int, str], kinds: Mapping[str, FieldKind]) -> None:
    """What a macro runs over may not hold anything long many times."""
    depth = 0
    for place, word in enumerate(words):
        if word.kind is Kind.SIGN:
            depth += {"[": 1, "]": -1}.get(word.text, 0)
        is_long = place in mentions and kinds[mentions[place]] in (FieldKind.STRING, FieldKind.LIST)
        if depth > 0 and is_long and word.text == _CONTEXT:
            message = "beside all, exists and exists_one, string and list fields may not stand between [ and ]"
            raise bad_at(text, word.offset, message)


def _check_counts(counts: Mapping[str, int]) -> None:
    for name, words, limit in (
        ("macros", "all, exists and exists_one together", MAX_MACROS),
        ("contains", "contains", MAX_SEARCHES),
        ("matches", "matches", MAX_PATTERNS),
    ):
        if counts[name] > limit:
            raise BadCondition(f"a condition uses {words} at most {limit} times; split the rule")


def _check_pattern(text: str, literal: Token) -> None:
    found = _PLAIN_TEXT.fullmatch(literal.text)
    if found is None:
        raise bad_at(text, literal.offset, "matches takes one pattern, written out: matches(r'^a+$')")
    pattern = found["body"]
    if literal.text[0] not in "rR" and "\\" in pattern:
        raise bad_at(text, literal.offset, "write a pattern with backslashes as r'…'")
    if "\\p" in pattern or "\\P" in pattern:
        raise bad_at(text, literal.offset, "patterns have no \\p classes: each costs milliseconds; use [a-z] or \\w")
    if (length := _expanded_length(pattern)) > MAX_PATTERN_LENGTH:
        raise bad_at(
            text,
            literal.offset,
            f"a pattern has at most {MAX_PATTERN_LENGTH} characters with its counts written out, this one about "
            f"{min(length, 1_000_000)}; shorten it or use * and +",
        )


def _expanded_length(pattern: str) -> int:
    """Not less than the number of atoms after {n} and {n,m} are written out; counts behind groups multiply."""
    length, factor = len(pattern), 1
    for found in _COUNT.finditer(pattern):
        count = max(1, *(int(number[:5]) for number in found.groups() if number))
        if found.start() and pattern[found.start() - 1] in ")}?*+":
            factor *= count
        else:
            length += count
    return length * factor


def _closing(words: list[Token], opening: int) -> int:
    """Where the bracket closes, or the end of a text that lacks it, which CEL refuses."""
    depth = 0
    for place in range(opening, len(words)):
        if words[place].kind is Kind.SIGN:
            depth += {"(": 1, ")": -1}.get(words[place].text, 0)
            if depth == 0:
                return place
    return len(words)


def _is(words: list[Token], place: int, sign: str) -> bool:
    return 0 <= place < len(words) and words[place].kind is Kind.SIGN and words[place].text == sign
