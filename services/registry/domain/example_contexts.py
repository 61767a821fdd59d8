"""Contexts that calls of a deployment may have: examples for callers, and such as may fulfil a rule. Pure.

They are made of what conditions compare fields with. Whether one fulfils a rule is asked of the rule.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain, islice, zip_longest
from typing import Final, TypeAlias

from catalog.conditions import MAX_CONTEXT_BYTES, BadCondition, Field, FieldKind, coerce
from catalog.conditions.tokens import Kind, Token, tokens
from catalog.routing import Routing, Rule
from kit.json import Json

Context: TypeAlias = "dict[str, Json]"

MAX_TRIES: Final = 16
"""Contexts made of the conditions of a variant's rules."""
_MAX_LITERALS: Final = 8
"""Of one field in one condition."""
_MAX_LITERAL_LENGTH: Final = 100
_USUAL: Final[Mapping[FieldKind, Json]] = {
    FieldKind.STRING: "example",
    FieldKind.NUMBER: 1,
    FieldKind.BOOLEAN: True,
    FieldKind.DATE: "2026-01-31T00:00:00Z",
    FieldKind.LIST: ["example"],
}
_UNUSUAL: Final[Mapping[FieldKind, Json]] = {FieldKind.STRING: "another", FieldKind.LIST: ["another"]}
"""Where conditions compare with the usual one."""
_PARTING: Final = frozenset("&|?:")
"""What of `&&`, `||` and `… ? … : …` stands between what is compared."""
_BEFORE_A_SIGN: Final = frozenset({*"(,[=<>&|?:!+-*/%", "in"})
"""What a minus stands behind that begins a number."""
_LITERAL: Final = re.compile(r"""([rR]?)("{3}|'{3}|"|')([\s\S]*)\2""")
_ESCAPE: Final = re.compile(r"\\([\s\S])")


def example(routing: Routing) -> Context:
    """Each declared field with a value of its kind: the first with which a condition compares it, if one does."""
    found = {field.name: values[0] for field, values in _values(routing.fields, routing.rules)}
    return found if _fits(found) else {}


def reaching(routing: Routing, variant: str) -> Iterator[Context]:
    """Contexts with which calls may be served by a variant, likely ones first: the example; at most `MAX_TRIES` that
    may fulfil a rule with the variant in its split; one unlike all that rules compare with; and none.

    :param variant: uid
    """
    shown = example(routing)
    yield shown
    rules = [rule for rule in routing.rules if rule.active and is_in(variant, rule)]
    in_turn = chain.from_iterable(zip_longest(*(_fulfilling(routing, rule, shown) for rule in rules)))
    # Counted before they are looked at: there may be any number, and none that fits.
    yield from filter(_fits, islice((each for each in in_turn if each is not None), MAX_TRIES))
    yield {field.name: values[-1] for field, values in _values(routing.fields, routing.rules)}
    yield {}


def is_in(variant: str, rule: Rule) -> bool:
    """Whether a rule's split has a part for a variant."""
    return any(share.variant == variant and share.weight > 0 for share in rule.shares)


def _fulfilling(routing: Routing, rule: Rule, shown: Context) -> Iterator[Context]:
    """What may fulfil a rule, with the example's other fields and without."""
    mentioned = {name for _, name in _mentions(_words(rule.condition), ("context", "present"))}
    fields = [field for field in routing.fields if field.name in mentioned]
    choices: list[list[Context]] = [
        [*({field.name: value} for value in values), {}] for field, values in _values(fields, [rule])
    ]
    others = {name: value for name, value in shown.items() if name not in mentioned}
    for own in _combined(choices, [len(each) - 1 for each in choices]):
        yield others | own
        if others:
            yield own


def _combined(choices: Sequence[Sequence[Context]], most: Sequence[int]) -> Iterator[Context]:
    """One of each together, those before others of which less is changed from the first."""
    for distance in range(sum(most) + 1):
        yield from _apart(choices, most, distance)


def _apart(choices: Sequence[Sequence[Context]], most: Sequence[int], distance: int) -> Iterator[Context]:
    if not choices:
        yield {}
        return
    for step in range(max(0, distance - sum(most[1:])), min(most[0], distance) + 1):
        for others in _apart(choices[1:], most[1:], distance - step):
            yield choices[0][step] | others


def _values(fields: Sequence[Field], rules: Sequence[Rule]) -> Iterator[tuple[Field, list[Json]]]:
    """Of each field what conditions compare it with, and last something else."""
    literals: dict[str, list[Json]] = {field.name: [] for field in fields}
    for rule in rules:
        for name, literal in _compared(rule.condition):
            if name in literals and len(literals[name]) < _MAX_LITERALS:
                literals[name].append(literal)
    for field in fields:
        found = list(_of_kind(field.kind, literals[field.name]))
        yield field, [each for at, each in enumerate(found) if each not in found[:at]]


def _of_kind(kind: FieldKind, literals: Sequence[Json]) -> Iterator[Json]:
    usual = _UNUSUAL.get(kind, _USUAL[kind]) if "example" in literals else _USUAL[kind]
    if kind is FieldKind.STRING:
        yield from (each for each in literals if isinstance(each, str))
    elif kind is FieldKind.NUMBER:
        for each in literals:
            number = coerce(kind, each)
            if isinstance(number, (int, float)):
                # The values on either side of it, too: it may be a bound that is not included.
                yield from (_number(number + step) for step in (0, 1, -1))
    elif kind is FieldKind.DATE:
        for each in literals:
            if isinstance(day := coerce(kind, each), datetime):
                yield from filter(None, (_date(day, timedelta(days)) for days in (0, 1, -1)))
    elif kind is FieldKind.LIST:
        yield from ([each] for each in literals)
        if len(literals) > 1:
            yield list(literals)
    yield usual
    if kind is FieldKind.BOOLEAN:
        yield False


def _number(found: float) -> Json:
    return int(found) if isinstance(found, float) and found.is_integer() else found


def _date(day: datetime, step: timedelta) -> str:
    try:
        return (day + step).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return ""


def _compared(condition: str) -> Iterator[tuple[str, Json]]:
    """The literals of a condition, each with the field beside which it stands."""
    words = _words(condition)
    mentions = _mentions(words, ("context",))
    begins = 0
    last = ""
    for end in (*(at for at, word in enumerate(words) if _is(word, _PARTING)), len(words)):
        here = [(at, name) for at, name in mentions if begins <= at < end]
        for at in range(begins, end):
            before = [name for place, name in here if place < at]
            name = before[-1] if before else here[0][1] if here else last
            literal = _literal(words, at)
            if name and literal is not None:
                yield name, literal
        last = here[-1][1] if here else last
        begins = end + 1


def _words(condition: str) -> list[Token]:
    try:
        return tokens(condition)
    except BadCondition:
        return []


def _mentions(words: Sequence[Token], of: Sequence[str]) -> list[tuple[int, str]]:
    """Fields, each with its place."""
    found: list[tuple[int, str]] = []
    for at, word in enumerate(words[:-2]):
        is_root = word.kind is Kind.NAME and word.text in of and (at == 0 or words[at - 1].text != ".")
        if is_root and words[at + 1].text == ".":
            found.append((at, words[at + 2].text))
    return found


def _literal(words: Sequence[Token], at: int) -> Json:
    """What a word says, if it is a text, a number or a truth; None if not, and if it is a pattern or a duration."""
    word = words[at]
    if word.kind is Kind.TEXT:
        is_other = at > 1 and words[at - 1].text == "(" and words[at - 2].text in ("matches", "duration")
        text = "" if is_other else _text(word.text)
        return text if 0 < len(text) <= _MAX_LITERAL_LENGTH and "\0" not in text else None
    if word.kind is Kind.NUMBER:
        digits = word.text.rstrip("uU")
        number = int(digits, 16) if digits[:2] == "0x" else float(digits) if set(digits) & set(".eE") else int(digits)
        is_negative = at > 0 and words[at - 1].text == "-" and (at == 1 or words[at - 2].text in _BEFORE_A_SIGN)
        number = -number if is_negative else number
        return number if coerce(FieldKind.NUMBER, number) is not None else None
    return word.text == "true" if word.kind is Kind.NAME and word.text in ("true", "false") else None


def _text(literal: str) -> str:
    """What a literal of conditions says; nothing if that is not text."""
    found = _LITERAL.fullmatch(literal)
    if found is None or found[1]:
        return found[3] if found else ""
    # Python's, but for two escapes.
    pythons = _ESCAPE.sub(lambda each: each[1] if each[1] in "?`" else each[0], literal)
    try:
        text = str(ast.literal_eval(pythons))
        text.encode()
    except (SyntaxError, ValueError):
        return ""
    return text


def _is(word: Token, signs: frozenset[str]) -> bool:
    return word.kind is Kind.SIGN and word.text in signs


def _fits(context: Context) -> bool:
    return len(json.dumps(context)) <= MAX_CONTEXT_BYTES
