"""In what revisions differ, by values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from completions.version import Parameters
from completions.version import Version as Content
from kit.json import Json
from services.registry.domain import (
    USUAL,
    Completion,
    DifferenceKind,
    Execution,
    Fallback,
    Project,
    Recommendation,
    Record,
    Revision,
    UnknownUsers,
    Variant,
    Version,
    differences,
)

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
PROJECT = Project("prj_1", 1, "shop", "Shop", Record(MOMENT, MOMENT, 1, 1))


def revision(count: int) -> Revision:
    variants = [
        Variant(f"var_{n}", n, f"v{n}", f"V {n}", "", True, 1.0, Recommendation("mdl_1", UnknownUsers.POPULAR))
        for n in range(count)
    ]
    return Revision("rev_1", "", "", 1, 0, "salt", "me", "", MOMENT, False, tuple(variants))


def test_of_many_differences_the_first_are_told_and_how_many_more_there_are() -> None:
    before = revision(150)
    changed = replace(
        before, variants=tuple(replace(each, weight=2.0, notes=f"note {each.slug}") for each in before.variants)
    )

    found = differences(before, (), changed, ())

    assert len(found) == 201
    assert all(each.path for each in found[:-1])
    assert (found[-1].path, found[-1].kind) == ("", DifferenceKind.CHANGED)
    assert found[-1].sentence == "100 more fields differ"


def test_what_is_too_long_for_one_answer_is_told_in_words() -> None:
    before = revision(3)
    long = "x" * 600_000
    changed = replace(before, variants=tuple(replace(each, notes=long) for each in before.variants))

    found = differences(before, (), changed, ())

    assert [bool(each.after_json) for each in found] == [True, False, False]
    assert all("notes" in each.sentence for each in found)
    assert sum(len(each.before_json + each.after_json + each.sentence + each.path) for each in found) <= 1 << 20


def completion(content: Content, execution: Execution = USUAL) -> tuple[Revision, tuple[Version]]:
    version = Version("ver_1", PROJECT, "prv_1", content, MOMENT, 1, MOMENT)
    variant = Variant("var_1", 1, "v", "V", "", True, 1.0, Completion("ver_1", 0, None, execution=execution))
    return replace(revision(0), variants=(variant,)), (version,)


def with_fallback(parameters: Parameters | None) -> tuple[Revision, tuple[Version]]:
    return completion(Content("openai", "m"), Execution(fallbacks=(Fallback("openai", "small", parameters),)))


def with_tool(**more: Json) -> tuple[Revision, tuple[Version]]:
    return completion(Content("openai", "m", tools=[{"type": "function", "function": {"name": "f", **more}}]))


def with_properties(**properties: Json) -> tuple[Revision, tuple[Version]]:
    return completion(Content("openai", "m", variables_schema={"type": "object", "properties": properties}))


@pytest.mark.parametrize(
    ("before", "after", "path"),
    [
        (with_fallback(None), with_fallback(Parameters()), "fallbacks[0].parameters"),
        (with_tool(), with_tool(parameters={}), "tools[0].function.parameters"),
        (with_properties(a={}), with_properties(a={}, b={}), "variables_schema.properties.b"),
        (completion(Content("p", "m")), completion(Content("p", "m", variables_schema={})), "variables_schema"),
        (completion(Content("p", "m")), completion(Content("p", "m", response_format={})), "response_format"),
    ],
)
def test_what_is_empty_is_not_what_is_absent(
    before: tuple[Revision, tuple[Version]], after: tuple[Revision, tuple[Version]], path: str
) -> None:
    [added] = differences(*before, *after)
    [removed] = differences(*after, *before)

    assert (added.path, added.kind, added.after_json) == (
        f"variants[v].completion.{path}",
        DifferenceKind.ADDED,
        "{}",
    )
    assert (removed.path, removed.kind, removed.before_json) == (added.path, DifferenceKind.REMOVED, "{}")


def test_parameters_of_a_version_are_the_same_absent_and_empty() -> None:
    asked = Content("p", "m", parameters=Parameters(extra={}))

    assert differences(*completion(Content("p", "m")), *completion(asked)) == ()


def test_the_order_of_what_a_schema_requires_is_no_difference() -> None:
    def serving(*names: str) -> tuple[Revision, tuple[Version]]:
        schema: dict[str, Json] = {"type": "object", "required": list[Json](names), "properties": {}}
        content = Content("openai", "m", variables_schema=schema)
        version = Version("ver_1", PROJECT, "prv_1", content, MOMENT, 1, MOMENT)
        variant = Variant("var_1", 1, "v", "V", "", True, 1.0, Completion("ver_1", 0, None))
        return replace(revision(0), variants=(variant,)), (version,)

    assert differences(*serving("a", "b"), *serving("b", "a")) == ()
    [found] = differences(*serving("a", "b"), *serving("c", "a"))
    assert found.path == "variants[v].completion.variables_schema.required"
    assert (found.before_json, found.after_json) == ('["a","b"]', '["a","c"]')
