import time
from typing import Any

import pytest

from completions.contract import Contract, InputCheck
from kit.errors import Invalid
from kit.json import Json

S: Json = {"type": "string"}
TRIPS: dict[str, Json] = {
    "type": "object",
    "properties": {
        "country": S,
        "language": {"enum": ["en", "fr"]},
        "age": {"type": "integer", "minimum": 18},
        "code": {"type": "string", "pattern": "^[A-Z]+$", "minLength": 2},
        "trips": {"type": "array", "maxItems": 3, "items": {"type": "object", "properties": {"city": S}}},
        "extra": {"type": "object", "properties": {"a b": S}, "additionalProperties": False},
        "id": {"anyOf": [S, {"type": "integer"}]},
        "note": {"type": ["string", "null"]},
    },
    "required": ["country"],
    "additionalProperties": False,
}


def refused(variables: dict[str, Any], schema: dict[str, Json] = TRIPS) -> list[str]:
    with pytest.raises(Invalid) as refusal:
        InputCheck().check(Contract(schema), variables)

    assert refusal.value.reason == "VARIABLES_INVALID"
    return [f"{one.field} {one.message}" for one in refusal.value.violations]


@pytest.mark.parametrize(
    ("variables", "sentences"),
    [
        ({"country": 1}, ["variables.country must be a string"]),
        ({}, ["variables.country is required"]),
        ({"country": None}, ["variables.country must be a string"]),
        ({"country": "FR", "note": 3}, ["variables.note must be a string or null"]),
        ({"country": "FR", "trips": {}}, ["variables.trips must be an array"]),
        (
            {"country": "FR", "trips": [{"city": "a"}, {}, {"city": 2}]},
            ["variables.trips[2].city must be a string"],
        ),
        ({"country": "FR", "trips": [{}] * 4}, ["variables.trips must have at most 3 elements"]),
        ({"country": "FR", "language": "de"}, ['variables.language must be one of "en", "fr"']),
        ({"country": "FR", "age": 17}, ["variables.age must be at least 18"]),
        ({"country": "FR", "age": 17.5}, ["variables.age must be an integer", "variables.age must be at least 18"]),
        ({"country": "FR", "age": True}, ["variables.age must be an integer"]),
        (
            {"country": "FR", "code": "x"},
            ["variables.code must have at least 2 characters", "variables.code must match ^[A-Z]+$"],
        ),
        ({"country": "FR", "extra": {"a b": 1}}, ['variables.extra["a b"] must be a string']),
        ({"country": "FR", "extra": {"b": 1}}, ["variables.extra.b is no member that the contract allows"]),
        ({"country": "FR", "id": []}, ["variables.id must fit one of the forms that the contract allows"]),
        ({"country": 1, "age": "x"}, ["variables.country must be a string", "variables.age must be an integer"]),
    ],
)
def test_variables_that_break_the_contract_are_refused_with_their_places(
    variables: dict[str, Json], sentences: list[str]
) -> None:
    assert sorted(refused(variables)) == sorted(sentences)


@pytest.mark.parametrize(
    "variables",
    [
        {"country": "FR"},
        {"country": "FR", "unknown": object, "another": [1]},
        {"country": "FR", "age": 18.0, "id": 7, "note": None, "language": "fr", "trips": [{"city": "a", "x": 1}]},
    ],
)
def test_variables_that_keep_to_the_contract_pass_and_unknown_ones_are_ignored(variables: dict[str, Any]) -> None:
    InputCheck().check(Contract(TRIPS), variables)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/R", "$defs": {"R": {**TRIPS}}},
        {"allOf": [TRIPS]},
        {"anyOf": [TRIPS, {"type": "null"}]},
    ],
)
def test_unknown_variables_are_ignored_wherever_the_properties_stand(schema: dict[str, Json]) -> None:
    InputCheck().check(Contract(schema), {"country": "FR", "unknown": 1})


@pytest.mark.parametrize("contract", [Contract(), Contract({}), Contract({"type": "object", "properties": {}})])
def test_without_variables_in_the_contract_whatever_is_sent_is_ignored(contract: Contract) -> None:
    InputCheck().check(contract, {"anything": [1]})


def test_many_faults_are_listed_up_to_a_limit_and_counted() -> None:
    with pytest.raises(Invalid) as refusal:
        InputCheck().check(
            Contract({"type": "object", "properties": {"xs": {"type": "array", "items": S}}}),
            {"xs": list(range(100))},
        )

    assert len(refusal.value.violations) == 32
    assert str(refusal.value) == "variables.xs[0] must be a string (and 31 more)"


def test_a_hundred_thousand_faults_are_refused_by_the_first() -> None:
    schema: dict[str, Json] = {"type": "object", "properties": {"xs": {"type": "array", "items": S}}}
    check, contract = InputCheck(), Contract(schema)
    check.prepare(contract)
    started = time.process_time()

    with pytest.raises(Invalid) as refusal:
        check.check(contract, {"xs": [1] * 100_000})

    assert [one.field for one in refusal.value.violations] == ["variables.xs[0]"]
    assert time.process_time() - started < 0.1


def test_a_recursive_union_does_not_make_deep_variables_take_exponential_time() -> None:
    branch: Any = {"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}}
    schema: dict[str, Json] = {
        "type": "object",
        "properties": {"n": {"$ref": "#/$defs/N"}, "m": S},
        "$defs": {"N": {"anyOf": [{**branch, "required": ["n"]}, {**branch, "maxProperties": 1}]}},
    }
    deep: Json = 1
    for _ in range(60):
        deep = {"n": deep}
    started = time.process_time()

    with pytest.raises(Invalid) as refusal:
        InputCheck().check(Contract(schema), {"n": deep, "m": "x"})

    assert refusal.value.reason == "VARIABLES_TOO_LARGE"
    assert time.process_time() - started < 0.1


def test_what_was_sent_is_not_repeated_in_the_refusal() -> None:
    assert "s3cret" not in str(refused({"country": ["s3cret"], "language": "s3cret", "id": {"s3cret": 1}}))


@pytest.mark.parametrize(
    "variables",
    [{"country": {1: 2}}, {"country": "FR", "trips": [{1: 2}]}],
)
def test_variables_that_are_no_json_are_refused(variables: dict[str, Any]) -> None:
    assert all(sentence.startswith("variables") for sentence in refused(variables))


def test_a_pattern_that_backtracks_ends() -> None:
    schema: dict[str, Json] = {"type": "object", "properties": {"x": {"pattern": "^(?!b)(aa*)*$"}}}
    started = time.process_time()

    assert refused({"x": "a" * 900 + "b"}, schema) == ["variables.x must match ^(?!b)(aa*)*$"]

    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"type": "object", "properties": {"x": {"$ref": "https://example.org/x"}}}, "SCHEMA_REFERENCE_EXTERNAL"),
        ({"type": "object", "properties": {"x": {"$ref": "file:///etc/passwd"}}}, "SCHEMA_REFERENCE_EXTERNAL"),
        ({"type": "object", "properties": {"x": {"pattern": "("}}}, "SCHEMA_MALFORMED"),
        ({"type": "object", "properties": {"x": {"minLength": "3"}}}, "SCHEMA_MALFORMED"),
        ({"type": "string"}, "SCHEMA_MALFORMED"),
    ],
)
def test_a_contract_that_cannot_be_checked_is_refused_when_it_is_made(schema: dict[str, Json], reason: str) -> None:
    with pytest.raises(Invalid) as refusal:
        InputCheck().prepare(Contract(schema))

    assert refusal.value.reason == reason
    assert refusal.value.violations[0].field.startswith("variables")


@pytest.mark.parametrize(
    "dialect",
    [
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2020-12/schema",
        "https://example.org/unknown",
    ],
)
def test_a_schema_may_name_its_dialect(dialect: str) -> None:
    with pytest.raises(Invalid):
        InputCheck().check(Contract({"$schema": dialect, **TRIPS}), {"country": 1})


def test_a_tuple_of_an_older_dialect_is_checked_by_position() -> None:
    schema: dict[str, Json] = {
        "type": "object",
        "properties": {"x": {"type": "array", "items": [S, {"type": "integer"}]}},
    }

    assert refused({"x": ["a", "b"]}, schema) == ["variables.x[1] must be an integer"]


def test_a_recursive_schema_is_checked_to_the_leaves() -> None:
    schema: dict[str, Json] = {
        "type": "object",
        "properties": {"n": {"$ref": "#/$defs/N"}},
        "$defs": {"N": {"type": "object", "properties": {"v": S, "n": {"$ref": "#/$defs/N"}}}},
    }

    assert refused({"n": {"n": {"n": {"v": 1}}}}, schema) == ["variables.n.n.n.v must be a string"]


def test_equal_schemas_share_a_validator_and_the_longest_unused_goes() -> None:
    check = InputCheck(max_validators=2)
    contracts = [Contract({"type": "object", "properties": {name: S}}) for name in ("a", "a", "b", "c")]

    for contract in contracts[:3]:
        check.prepare(contract)
    assert len(check) == 2
    check.prepare(contracts[3])

    assert len(check) == 2


def test_large_schemas_do_not_pile_up() -> None:
    check = InputCheck(max_bytes=10_000)
    for index in range(5):
        check.prepare(Contract({"type": "object", "properties": {"x": {"enum": [f"{index}" * 6_000]}}}))

    assert len(check) == 1


def test_a_usual_call_is_checked_in_microseconds() -> None:
    check, contract = InputCheck(), Contract(TRIPS)
    variables: dict[str, Json] = {
        "country": "France",
        "language": "fr",
        "age": 33,
        "trips": [{"city": "Paris"}, {"city": "Lyon"}],
        "note": None,
    }
    check.check(contract, variables)

    def once() -> float:
        started = time.perf_counter()
        for _ in range(1_000):
            check.check(contract, variables)
        return (time.perf_counter() - started) / 1_000

    # The goal is 10 µs; measured about 2. The best of several, since the cores are shared.
    assert min(once() for _ in range(20)) < 10e-6
