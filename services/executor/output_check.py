"""Structured output: whether an answer keeps to the JSON schema that its version asks for, and what to tell if not."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from completions.contract.document import Document
from completions.contract.response_format import response_format_of
from completions.contract.validator import Validator
from kit import json
from kit.errors import Invalid
from kit.json import MAX_DEPTH, Json, dump
from kit.lru import Lru

_PATH: Final = "answer"
_MAX_BYTES: Final = 4 << 20
_MAX_LOOKS: Final = 5_000_000
"""What checking one answer may take: some 0.3 s at the very worst, on the event loop."""
_MAX_EXPLAINED_LOOKS: Final = 100_000
_MAX_LOOKED_AROUND: Final = 100_000
"""Characters of an answer, times the patterns that look around."""
_BACKTRACKS: Final = 1_000
_TOO_MUCH: Final = ("answer cannot be checked: it is too large or too deep for this schema",)
_NOT_KEPT: Final = ("answer must keep to the schema",)
_MAX_FEEDBACK: Final = 8_000


class OutputCheck:
    """Holds answers against one response format.

    :param schema: None: any JSON object
    :raises Invalid: as :class:`completions.contract.document.Document`; `SCHEMA_MALFORMED`
    """

    __slots__ = ("_validator", "size")

    def __init__(self, schema: Json) -> None:
        if schema is None:
            schema = {"type": "object"}
        document = Document(schema, "response_format.schema")
        self._validator = Validator(schema, document, path=_PATH, name="schema", backtracks=_BACKTRACKS)
        self.size = self._validator.size

    def violations(self, content: str) -> tuple[str, ...]:
        """Where an answer does not keep to the schema: `answer.city must be a string`; at most 32, none if it does.

        What is no JSON has one. So has what cannot be checked in bounded time: it may keep to the schema, but nobody
        can say so. Text around the JSON, such as a code fence, makes it none: a caller parses what it gets.
        """
        try:
            value = json.parse(content, field=_PATH, max_bytes=_MAX_BYTES, max_depth=MAX_DEPTH)
        except Invalid as refusal:
            return (_as_sentence(refusal),)
        looks = self._looks(content, value)
        if looks > _MAX_LOOKS:
            return _TOO_MUCH
        try:
            if self._validator.is_valid(value):
                return ()
            if looks > _MAX_EXPLAINED_LOOKS:
                return _NOT_KEPT
            return tuple(f"{one.field} {one.message}" for one in self._validator.faults(value, looks=looks))
        except ValueError:
            return _TOO_MUCH

    def _looks(self, content: str, value: Json) -> int:
        """How much work the check is, at most."""
        validator = self._validator
        if validator.effort.patterns_that_look_around * len(content) > _MAX_LOOKED_AROUND:
            return _MAX_LOOKS + 1
        return validator.looks(content.encode(), value, limit=_MAX_LOOKS)


def feedback(violations: Sequence[str]) -> str:
    """What a model is told that shall mend its answer: what is wrong with it, and how to answer."""
    listed = "\n".join(f"- {one}" for one in violations)[:_MAX_FEEDBACK]
    return (
        f"Your answer does not keep to the JSON schema that was asked for:\n{listed}\n"
        "Answer again, completely, with JSON alone that keeps to the schema: no text around it and no code fence."
    )


class OutputChecks:
    """Makes checks, and keeps them by their schema's hash, the last used longest.

    :param max_checks: how many are kept
    :param max_bytes: of their schemas' text together; the one in use is kept whatever its size
    """

    def __init__(self, *, max_checks: int = 512, max_bytes: int = 8 << 20) -> None:
        self._kept: Lru[bytes, OutputCheck] = Lru(max_entries=max_checks, max_bytes=max_bytes)

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, response_format: dict[str, Json] | None) -> OutputCheck | None:
        """The check of a format in OpenAI's shape; None if it is text. A format must not be changed afterwards.

        :raises Invalid: `RESPONSE_FORMAT_MALFORMED`, or as :class:`OutputCheck`
        """
        read = response_format_of(response_format)
        if read.form == "text":
            return None
        schema = read.schema if read.form == "json_schema" else None
        digest = hashlib.blake2b(dump(schema).encode(), digest_size=32).digest()
        check = self._kept.get(digest)
        if check is None:
            check = OutputCheck(schema)
            self._kept.put(digest, check, size_bytes=check.size)
        return check


def _as_sentence(refusal: Invalid) -> str:
    if refusal.reason == "JSON_MALFORMED":
        # Without the parser's words: they tell where, and nothing that helps.
        return "answer must be JSON and nothing else"
    return refusal.message
