"""What a file may declare: providers, prompts and deployments, as plain values in the names of the contracts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from cli.apply import rules, shapes, text
from cli.apply.text import Node
from cli.words import OutputPolicy, ProviderKind, Role, StructuredOutput, UnknownUsers
from kit.errors import Invalid, Violation
from kit.json import Json

MAX_FILES: Final = 1000
_SUFFIXES: Final = (".yaml", ".yml")
_INT32: Final = 2**31 - 1


class Kind(StrEnum):
    """What a document declares. The order is that in which they are applied: what is used comes before its users."""

    PROVIDER = "Provider"
    PROMPT = "Prompt"
    DEPLOYMENT = "Deployment"


@dataclass(frozen=True, slots=True)
class Document:
    """One thing that a file declares."""

    kind: Kind
    name: str
    fields: dict[str, Json]
    """What the file says of it, and nothing else."""
    where: str
    """`deployment.yaml:12`."""
    places: dict[str, str]
    """The same of what is inside, by path, down to what the fields of a variant or a rule hold."""

    def at(self, path: str) -> str:
        """`deployment.yaml:14 variants.calm.prompt`."""
        known = path
        while known and known not in self.places:
            known = known.rpartition(".")[0]
        return f"{self.places.get(known, self.where)} {path}"

    @property
    def label(self) -> str:
        """As people call it."""
        return f"{self.kind.lower()} {self.name}"


_slug: Final = shapes.text(
    pattern=r"(?=.*[a-z])[a-z0-9_-]{1,63}\Z", meaning="1 to 63 of a-z, 0-9, - and _, with a letter among them"
)
_word: Final = shapes.text(pattern=r".{1,300}\Z", meaning="1 to 300 characters in one line")
_title: Final = shapes.text(longest=200)
_description: Final = shapes.text(longest=4000)
_any_text: Final = shapes.text()


def _trained_model(node: Node, path: str, problems: shapes.Problems) -> Json:
    """By number or uid."""
    if isinstance(node.value, int) and not isinstance(node.value, bool):
        return str(node.value)
    return _word(node, path, problems)


_message: Final = shapes.mapping(
    {
        "role": shapes.one_of(list(Role)),
        "content": _any_text,
        "parts": shapes.listing(
            shapes.mapping(
                {
                    "text": _any_text,
                    "image": shapes.mapping({"url": _any_text, "detail": _any_text}, required=["url"]),
                }
            ),
            most=64,
        ),
        "name": _any_text,
        "tool_calls": shapes.listing(
            shapes.mapping(
                {"id": _any_text, "tool": _any_text, "arguments_json": _any_text, "extra_content_json": _any_text}
            ),
            most=128,
        ),
        "tool_call_id": _any_text,
        "reasoning": _any_text,
    },
    required=["role"],
)
_messages: Final = shapes.listing(_message, most=256)
_parameters: Final = shapes.mapping(
    {
        "temperature": shapes.number(0, 2),
        "top_p": shapes.number(0, 1),
        "top_k": shapes.number(1, _INT32, whole=True),
        "max_output_tokens": shapes.number(1, _INT32, whole=True),
        "presence_penalty": shapes.number(-2, 2),
        "frequency_penalty": shapes.number(-2, 2),
        "stop": shapes.listing(_any_text, most=16),
        "seed": shapes.number(-(2**63), 2**63 - 1, whole=True),
        "parallel_tool_calls": shapes.truth,
        "reasoning_effort": _any_text,
        "reasoning_budget_tokens": shapes.number(0, _INT32, whole=True),
        "extra": shapes.json_object,
    }
)
_time: Final = shapes.duration(0.001, 3600)
_fallback: Final = shapes.mapping(
    {
        "provider": _slug,
        "model": _word,
        "parameters": _parameters,
        "max_retries": shapes.number(0, 10, whole=True),
        "attempt_timeout": _time,
    },
    required=["provider", "model"],
)
_price: Final = shapes.number(0, 10**12, whole=True)
_model_facts: Final = shapes.mapping(
    {
        "model": _word,
        "input_usd_micros_per_million": _price,
        "cached_input_usd_micros_per_million": _price,
        "output_usd_micros_per_million": _price,
        "context_window_tokens": shapes.number(0, 2**53, whole=True),
        "structured_output": shapes.one_of(list(StructuredOutput)),
    },
    required=["model"],
)
CONTENT_FIELDS: Final = (
    "prompt",
    "messages",
    "variables_schema",
    "provider",
    "model",
    "parameters",
    "tools",
    "tool_choice",
    "response_format",
)
"""What a variant's version is made of."""
_variant: Final = shapes.mapping(
    {
        "display_name": _title,
        "notes": shapes.text(longest=10000),
        "weight": shapes.number(0, 100),
        "active": shapes.truth,
        "prompt": shapes.text(
            pattern=r"[a-z0-9_-]{1,63}(@[1-9][0-9]{0,8})?\Z", meaning="a prompt's name, as welcome@3"
        ),
        "messages": _messages,
        "variables_schema": shapes.json_object,
        "provider": _slug,
        "model": _word,
        "parameters": _parameters,
        "tools": shapes.listing(shapes.json_object, most=10_000),
        "tool_choice": shapes.json_text_or_object,
        "response_format": shapes.json_object,
        "version": _word,
        "max_retries": shapes.number(0, 10, whole=True),
        "attempt_timeout": _time,
        "fallbacks": shapes.listing(_fallback, most=10),
        "retry_statuses": shapes.listing(shapes.number(400, 599, whole=True), most=32),
        "first_token_timeout": _time,
        "idle_timeout": _time,
        "output_policy": shapes.one_of(list(OutputPolicy)),
        "recommendation": shapes.mapping(
            {"model": _trained_model, "unknown_users": shapes.one_of(list(UnknownUsers))}, required=["model"]
        ),
    }
)
_TRYING_FIELDS: Final = (
    "max_retries",
    "attempt_timeout",
    "fallbacks",
    "retry_statuses",
    "first_token_timeout",
    "idle_timeout",
    "output_policy",
)
_COMPLETION_FIELDS: Final = (*CONTENT_FIELDS, "version", *_TRYING_FIELDS)
_SHAPES: Final = {
    Kind.PROVIDER: shapes.mapping(
        {
            "display_name": _title,
            "provider_kind": shapes.one_of(list(ProviderKind)),
            "base_url": shapes.text(longest=2048),
            "credential_env": shapes.text(
                pattern=r"[A-Za-z_][A-Za-z0-9_]{0,199}\Z", meaning="an environment variable's name"
            ),
            "model_facts": shapes.listing(_model_facts, most=1000),
            "max_concurrent_calls": shapes.number(0, 100_000, whole=True),
        },
        required=["provider_kind"],
    ),
    Kind.PROMPT: shapes.mapping(
        {
            "display_name": _title,
            "description": _description,
            "messages": _messages,
            "variables_schema": shapes.json_object,
        },
        required=["messages"],
    ),
    Kind.DEPLOYMENT: shapes.mapping(
        {
            "display_name": _title,
            "description": _description,
            "protected": shapes.truth,
            "salt": shapes.text(longest=64),
            "variants": shapes.keyed(
                _variant, name=shapes.text(pattern=r".{1,200}\Z", meaning="1 to 200 characters"), most=200
            ),
            "routing": rules.shape,
            "aliases": shapes.keyed(
                shapes.text(pattern=r"[0-9]{1,9}\.[0-9]{1,9}\Z", meaning='a revision\'s number in quotes, as "1.2"'),
                name=shapes.text(
                    pattern=r"(?!live\Z)[a-z0-9][a-z0-9_#.-]{0,62}\Z",
                    meaning="1 to 63 of a-z, 0-9, _, #, . and -, and not live, which moves with the variants",
                ),
                most=200,
            ),
        }
    ),
}


def read(paths: Sequence[str]) -> list[Document]:
    """All that files declare, in the order in which it is applied: by kind, then as the files say.

    :param paths: of files, of folders with files that end in .yaml or .yml, or `-` for standard input
    :raises Invalid: `FILE_INVALID`, with every problem, its file, line and path
    """
    problems = shapes.Problems()
    found: dict[tuple[Kind, str], Document] = {}
    unreadable: list[Invalid] = []

    def refuse(error: Invalid) -> None:
        unreadable.append(error)
        problems.note(error.violations[0])

    for source, data in _files(paths, refuse):
        try:
            nodes = text.documents(data, source=source)
        except Invalid as error:
            refuse(error)
            continue
        for node in nodes:
            document = _document(node, problems)
            if document is None:
                continue
            former = found.setdefault((document.kind, document.name), document)
            if former is not document:
                problems.add(node, "name", f"the {document.label} stands in {former.where} already")
    if len(problems.found) == 1 and unreadable:
        raise unreadable[0]
    if problems.found:
        count = "one problem" if len(problems.found) == 1 else f"{len(problems.found)} problems"
        raise Invalid(f"nothing was applied: {count}", reason="FILE_INVALID", violations=problems.found)
    if not found:
        raise Invalid(f"there is nothing to apply in {', '.join(paths)}", reason="NOTHING_TO_APPLY")
    kinds = list(Kind)
    return sorted(found.values(), key=lambda document: kinds.index(document.kind))


def _files(paths: Sequence[str], refuse: Callable[[Invalid], None]) -> Iterator[tuple[str, bytes]]:
    """Those that can be read, each with its first bytes: one more than is allowed, to know without reading it all.

    :param refuse: told of those that cannot
    """
    for given in paths:
        if not given:
            raise Invalid("-f names no file: it is empty", reason="FILE_NOT_FOUND")
        if given == "-":
            yield "<stdin>", sys.stdin.buffer.read(text.MAX_BYTES + 1)
            continue
        path = Path(given)
        files = [path]
        if path.is_dir():
            files = sorted(
                each
                for each in path.rglob("*")
                if each.suffix in _SUFFIXES
                and not each.is_dir()
                and not any(part.startswith(".") for part in each.relative_to(path).parts)
            )
            if not files:
                raise Invalid(f"{given}: there is no file in it that ends in .yaml or .yml", reason="FILE_NOT_FOUND")
            if len(files) > MAX_FILES:
                raise Invalid(f"{given}: holds {len(files)} files; at most {MAX_FILES} are read", reason="FILE_INVALID")
        for file in files:
            if file is not path and file.exists() and not file.is_file():
                # In a folder nobody named it: whoever reads a pipe may wait for ever.
                refuse(_unread(file, "is no regular file, though it is named as one"))
                continue
            try:
                with file.open("rb") as opened:
                    data = opened.read(text.MAX_BYTES + 1)
            except OSError as error:
                is_dangling = file.is_symlink() and not file.exists()
                why = f"is a link to {file.readlink()}, which there is not" if is_dangling else error.strerror
                refuse(_unread(file, why or "cannot be read"))
                continue
            yield str(file), data


def _unread(file: Path, why: str) -> Invalid:
    return Invalid(f"{file}: {why}", reason="FILE_NOT_FOUND", violations=[Violation(str(file), why)])


def _document(node: Node, problems: shapes.Problems) -> Document | None:
    if not isinstance(node.value, dict):
        problems.add(node, "", f"a document must be a mapping, not {shapes.kind_of(node)}")
        return None
    members = dict(node.value)
    kind_node, name_node = members.pop("kind", None), members.pop("name", None)
    before = len(problems.found)
    if kind_node is None or kind_node.value not in list(Kind):
        problems.add(kind_node or node, "kind", f"must be one of {', '.join(Kind)}")
        return None
    kind = Kind(str(kind_node.value))
    if name_node is None:
        problems.add(node, "name", "is missing")
    name = None if name_node is None else _slug(name_node, "name", problems)
    fields = _SHAPES[kind](replace(node, value=members), "", problems)
    if kind is Kind.DEPLOYMENT and isinstance(variants := members.get("variants"), Node):
        _check_variants(variants, problems)
    if len(problems.found) > before or not isinstance(name, str) or not isinstance(fields, dict):
        return None
    return Document(kind, name, fields, node.where, dict(places(members)))


def places(members: dict[str, Node], path: str = "", depth: int = 4) -> Iterator[tuple[str, str]]:
    """Where things stand, by path."""
    for name, node in members.items():
        yield f"{path}{name}", node.where
        if depth == 1:
            continue
        if isinstance(node.value, dict):
            yield from places(node.value, f"{path}{name}.", depth - 1)
        elif isinstance(node.value, list):
            for index, each in enumerate(node.value):
                yield f"{path}{name}[{index}]", each.where
                if isinstance(each.value, dict):
                    yield from places(each.value, f"{path}{name}[{index}].", depth - 1)


def _check_variants(variants: Node, problems: shapes.Problems) -> None:
    """What the fields of a variant mean together."""
    if not isinstance(variants.value, dict):
        return
    sorts: set[bool] = set()
    for name, node in variants.value.items():
        if not isinstance(node.value, dict):
            continue
        path, given = f"variants.{name}", node.value
        sorts.add("recommendation" in given)
        if "recommendation" in given:
            _refuse(
                given, _COMPLETION_FIELDS, path, "belongs to completions; this variant has `recommendation`", problems
            )
            continue
        if "version" in given:
            _refuse(given, CONTENT_FIELDS, path, "says what `version` says already", problems)
            continue
        for needed in ("provider", "model"):
            if needed not in given:
                problems.add(node, f"{path}.{needed}", "is missing")
        if "prompt" in given:
            _refuse(given, ("messages", "variables_schema"), path, "says what `prompt` says already", problems)
    if len(sorts) > 1:
        problems.add(variants, "variants", "must be all completions, or all recommendations")


def _refuse(given: dict[str, Node], names: Iterable[str], path: str, problem: str, problems: shapes.Problems) -> None:
    for name in names:
        if name in given:
            problems.add(given[name], f"{path}.{name}", problem)
