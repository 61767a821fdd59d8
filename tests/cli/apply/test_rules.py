"""Routing as files say it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.apply import rules, shapes
from cli.apply.differences import ABSENT
from cli.apply.text import documents
from turnout.registry.v1 import routing_pb2 as pb

FILE = """\
fields: {country: string, age: number}
rules:
  - name: Spanish
    when: context.country in ["ES", "MX"]
    split: {es-1: 30, es-2: 70}
  - name: English
    when: context.country == "GB"
    variant: en
    active: false
coverage: 0.8
baseline: en
"""


def read(text: str) -> Any:
    """What a file says, and all that is wrong with it."""
    [node] = documents(text.encode(), source="f.yaml")
    problems = shapes.Problems()
    fields = rules.shape(node, "routing", problems)
    return fields, [f"{each.field}: {each.message}" for each in problems.found]


def stored(text: str = FILE) -> pb.Routing:
    """As the registry answers it."""
    proto = rules.routing(read(text)[0], pb.Routing())
    for index, rule in enumerate(proto.rules):
        rule.uid = f"rul_{index}"
    return proto


def test_a_file_says_all_of_it() -> None:
    assert rules.routing(read(FILE)[0], pb.Routing()) == pb.Routing(
        fields=[
            pb.Field(name="country", kind=pb.FIELD_KIND_STRING),
            pb.Field(name="age", kind=pb.FIELD_KIND_NUMBER),
        ],
        rules=[
            pb.Rule(
                display_name="Spanish",
                condition='context.country in ["ES", "MX"]',
                active=True,
                split=pb.Split(shares=[pb.Share(variant="es-1", weight=30), pb.Share(variant="es-2", weight=70)]),
            ),
            pb.Rule(display_name="English", condition='context.country == "GB"', active=False, variant="en"),
        ],
        coverage=0.8,
        baseline="en",
    )


def test_variants_are_sent_by_the_slugs_that_they_have() -> None:
    proto = rules.routing(read(FILE)[0], pb.Routing(), lambda name: f"{name}-x")

    assert [share.variant for share in proto.rules[0].split.shares] == ["es-1-x", "es-2-x"]
    assert (proto.rules[1].variant, proto.baseline) == ("en-x", "en-x")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("variant: en", "split: {en: 1}\n    variant: en", "f.yaml:6 routing.rules[1]: must have either"),
        ("    variant: en\n", "", "f.yaml:6 routing.rules[1]: must have either"),
        ("{es-1: 30, es-2: 70}", "{}", "f.yaml:5 routing.rules[0].split: must have a variant"),
        ("es-2: 70", "es-2: 700", "routing.rules[0].split.es-2: must be a number from 0 to 100"),
        ("age: number", "age: integer", "routing.fields.age: must be one of string, number, boolean, date, list"),
        ("age: number", "Age: number", "routing.fields.Age: must be a lower-case letter"),
        ("coverage: 0.8", "coverage: 80", "routing.coverage: must be a number from 0 to 1"),
        ("  - name: English\n    when", "  - when", "routing.rules[1].name: is missing"),
        ("active: false", "active: 0", "routing.rules[1].active: must be true or false"),
        ("active: false", "uid: rul_1", "routing.rules[1].uid: must be a rule's uid"),
        ("rules:\n", "rules: [5]\nmore:\n", "routing.rules[0]: must be a mapping"),
    ],
)
def test_mistakes_are_told_with_their_place(before: str, after: str, said: str) -> None:
    assert before in FILE

    assert any(said in each for each in read(FILE.replace(before, after))[1]), read(FILE.replace(before, after))


@pytest.mark.parametrize("text", ["5", "[]", "rules: {}", "rules: [[]]", "fields: []"])
def test_other_sorts_of_values_are_refused(text: str) -> None:
    assert read(text)[1]


names = st.sampled_from(["a", "b", "c", "variant-1"])
weights = st.one_of(st.integers(0, 100), st.floats(0, 100))
destinations = st.one_of(
    st.fixed_dictionaries({"variant": names}),
    st.fixed_dictionaries({"split": st.dictionaries(names, weights, min_size=1)}),
)
rule = st.tuples(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["A", "B", "Rule 1"]), "when": st.sampled_from(["true", 'context.a == "x"'])},
        optional={"active": st.booleans()},
    ),
    destinations,
).map(lambda parts: {**parts[0], **parts[1]})
routings = st.fixed_dictionaries(
    {},
    optional={
        "fields": st.dictionaries(names.filter(str.isalpha), st.sampled_from(["string", "list"])),
        "rules": st.lists(rule, max_size=5),
        "coverage": st.floats(0, 1),
        "baseline": names,
    },
)


@given(routings)
def test_what_is_written_into_a_file_changes_nothing(fields: dict[str, Any]) -> None:
    there = rules.routing(fields, pb.Routing())
    for index, each in enumerate(there.rules):
        each.uid = f"rul_{index}"

    again = rules.routing(rules.document(there), there)

    assert rules.changes(there, again) == []
    assert [each.uid for each in again.rules] == [each.uid for each in there.rules]


def told(before: str, after: str) -> list[tuple[str, object, object]]:
    """The differences that an edit of the file makes."""
    assert before in FILE
    there = stored()
    wanted = rules.routing(read(FILE.replace(before, after))[0], there)
    return [(each.path, each.before, each.after) for each in rules.changes(there, wanted)]


@pytest.mark.parametrize(
    ("before", "after", "differences"),
    [
        ("es-1: 30", "es-1: 30.5", [("routing.rules[Spanish].split.es-1", 30, 30.5)]),
        ("name: Spanish", "name: Iberian", [("routing.rules[Spanish].name", "Spanish", "Iberian")]),
        ('"GB"', '"US"', [("routing.rules[English].when", 'context.country == "GB"', 'context.country == "US"')]),
        ("coverage: 0.8", "coverage: 1", [("routing.coverage", 0.8, ABSENT)]),
        (", age: number", "", [("routing.fields.age", "number", ABSENT)]),
        ("    active: false\n", "", [("routing.rules[English].active", False, ABSENT)]),
        ("split: {es-1: 30, es-2: 70}", "split: {es-2: 70, es-1: 30.0}", []),
        ("variant: en", "split: {en: 100}", []),
    ],
)
def test_only_what_differs_is_told(before: str, after: str, differences: list[tuple[str, object, object]]) -> None:
    assert told(before, after) == differences


def test_the_order_of_rules_is_a_difference() -> None:
    there = stored()
    fields = read(FILE)[0]
    fields["rules"].reverse()

    [found] = rules.changes(there, rules.routing(fields, there))

    assert (found.path, found.before, found.after) == (
        "routing.rules",
        ["Spanish", "English"],
        ["English", "Spanish"],
    )


def test_a_rule_before_the_others_is_told_with_its_place() -> None:
    there = stored()
    fields = read(FILE)[0]
    fields["rules"].insert(0, {"name": "VIP", "when": "true", "variant": "en"})

    found = {each.path: (each.before, each.after) for each in rules.changes(there, rules.routing(fields, there))}

    assert found["routing.rules[VIP].when"] == (ABSENT, "true")
    assert found["routing.rules"] == (["Spanish", "English"], ["VIP", "Spanish", "English"])


def test_a_rule_keeps_its_uid_by_uid_or_name_or_where_it_was_only_renamed() -> None:
    there = stored()
    there.rules.add(uid="rul_" + "0" * 26, display_name="Spanish", condition="true", variant="en")
    fields = {
        "rules": [
            {"name": "Anything", "when": "false", "variant": "en", "uid": "rul_" + "0" * 26},
            {"name": "Renamed", "when": 'context.country == "GB"', "split": {"en": 7}},
            {"name": "Spanish", "when": "true", "variant": "en"},
            {"name": "Spanish", "when": "1 == 1", "variant": "en"},
        ]
    }

    uids = [rule.uid for rule in rules.routing(fields, there).rules]

    assert uids == ["rul_" + "0" * 26, "rul_1", "rul_0", ""]


@pytest.mark.parametrize(
    "rule",
    [
        {"name": "Iberian", "when": 'context.country in ["ES", "MX"]', "split": {"es-1": 30, "es-2": 71}},
        {"name": "Iberian", "when": 'context.country in ["ES", "MX"]', "variant": "es-1"},
        {"name": "Iberian", "when": 'context.country == "ES"', "split": {"es-1": 30, "es-2": 70}},
    ],
)
def test_a_rule_of_another_name_that_says_something_else_is_new(rule: dict[str, Any]) -> None:
    assert [each.uid for each in rules.routing({"rules": [rule]}, stored()).rules] == [""]


def test_a_rule_that_says_the_same_beside_one_that_is_still_there_is_new() -> None:
    there = stored()
    copied = read(FILE)[0]
    copied["rules"].insert(0, copied["rules"][0] | {"name": "Iberian"})
    # Two of one name, of which one goes: what says the same as that one is no new name of it.
    twice = stored()
    twice.rules.add(uid="rul_2", display_name="Spanish", condition="true", variant="en")
    one_gone = read(FILE)[0]
    one_gone["rules"].append({"name": "Others", "when": "true", "variant": "en"})

    assert [each.uid for each in rules.routing(copied, there).rules] == ["", "rul_0", "rul_1"]
    assert [each.uid for each in rules.routing(one_gone, twice).rules] == ["rul_0", "rul_1", ""]


def test_a_rule_is_renamed_in_the_slugs_of_its_variants() -> None:
    there = rules.routing(read(FILE)[0], pb.Routing(), lambda name: f"{name}-x")
    for index, each in enumerate(there.rules):
        each.uid = f"rul_{index}"
    renamed = read(FILE.replace("name: Spanish", "name: Iberian"))[0]

    assert [each.uid for each in rules.routing(renamed, there, lambda name: f"{name}-x").rules] == ["rul_0", "rul_1"]


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("deployment.routing.rules[1].condition", "routing.rules[1].when"),
        ("deployment.routing.rules[1].display_name", "routing.rules[1].name"),
        ("deployment.routing.rules[0].split.shares[1].variant", "routing.rules[0].split.es-2"),
        ("deployment.routing.rules[9].split.shares[1].weight", "routing.rules[9].split.1"),
        ("deployment.routing.fields[1].name", "routing.fields.age"),
        ("deployment.routing.baseline", "routing.baseline"),
        ("deployment.routing.rules", "routing.rules"),
        ("deployment.salt", "salt"),
    ],
)
def test_places_of_the_contracts_are_told_as_the_file_has_them(field: str, path: str) -> None:
    assert rules.path_in_file(field, read(FILE)[0]) == path
