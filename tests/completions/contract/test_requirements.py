from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.contract import Contract, InputCheck, compare, requiring
from kit.errors import Invalid
from kit.json import Json, dump


def obj(*required: str, **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return {**schema, "required": list(required)} if required else schema


S: Json = {"type": "string"}
USER = obj("name", name=S, age=S)


def moved(held: Any, offered: Any) -> Any:
    return requiring(Contract(held), Contract(offered)).variables


@pytest.mark.parametrize(
    ("schema", "given", "missing"),
    [
        (obj("a", "b", a=S, b=S), {"a": 1}, ["b"]),
        (obj("user", user=USER), {}, ["user"]),
        (obj("user", user=USER), {"user": {}}, ["user.name"]),
        (obj(user=USER), {}, []),
        (obj("x", user=USER, x=S), {"user": {"age": "1"}}, ["x", "user.name"]),
        (obj(users={"type": "array", "items": USER}), {"users": [{"name": "a"}, {}]}, ["users[1].name"]),
        ({**obj(user={"$ref": "#/$defs/u"}), "$defs": {"u": USER}}, {"user": {}}, ["user.name"]),
        (obj(user={"anyOf": [USER, {"type": "null"}]}), {"user": {}}, ["user.name"]),
        (obj(user={"anyOf": [USER, obj("id", id=S)]}), {"user": {}}, []),
        (obj(user=USER), {"user": {"name": 1}}, []),
        (obj(user=USER), {"user": "x"}, []),
        (obj("a", "b"), {"a": 1}, ["b"]),
        (obj(*[f"v{n:02}" for n in range(40)]), {}, [f"v{n:02}" for n in range(32)]),
        (None, {}, []),
    ],
)
def test_what_is_missing_is_named_wherever_it_is(schema: Any, given: Any, missing: list[str]) -> None:
    assert InputCheck().missing(Contract(schema), given) == missing


def test_what_is_required_without_a_property_of_its_name_may_be_given() -> None:
    InputCheck().check(Contract(obj("a", b=S)), {"a": 1, "unknown": 2})


@pytest.mark.parametrize(
    ("held", "offered", "kept"),
    [
        (obj("a", a=S, b=S), obj("b", a=S, b=S), obj("b", a=S, b=S)),
        (obj("a", a=S), obj(b=S), obj(a=S)),
        (obj("a", a=S), None, obj(a=S)),
        (obj(a=S), obj("b", a=S, b=S), obj(a=S)),
        (obj(user=obj(name=S, age=S)), obj("user", user=USER), obj("user", user=USER)),
        (obj("user", user=USER), obj(user=obj(name=S)), obj(user=obj(name=S, age=S))),
        (
            obj(users={"type": "array", "items": obj(name=S, age=S)}),
            obj(users={"type": "array", "items": USER}),
            obj(users={"type": "array", "items": USER}),
        ),
        (
            obj(user={"anyOf": [obj(name=S, age=S), {"type": "null"}]}),
            obj(user=USER),
            obj(user={"anyOf": [USER, {"type": "null"}]}),
        ),
        (
            {**obj(a={"$ref": "#/$defs/u", "title": "A"}, b={"$ref": "#/$defs/u"}), "$defs": {"u": obj(name=S, age=S)}},
            obj(a=USER),
            {**obj(a={**USER, "title": "A"}, b={"$ref": "#/$defs/u"}), "$defs": {"u": obj(name=S, age=S)}},
        ),
        (
            obj(user=obj(name=S, age=S)),
            obj(user={"allOf": [obj("name", name=S), obj("age", age=S)]}),
            obj(user=obj("age", "name", name=S, age=S)),
        ),
    ],
)
def test_a_contract_comes_to_require_what_its_variants_do_now(held: Any, offered: Any, kept: Any) -> None:
    found = moved(held, offered)

    assert found == kept


def test_a_recursive_contract_keeps_its_references_and_ends() -> None:
    node = obj("name", name=S, next={"$ref": "#/$defs/node"})
    held = {**obj(x={"$ref": "#/$defs/node"}), "$defs": {"node": node}}
    loose = {**obj(x={"$ref": "#/$defs/node"}), "$defs": {"node": obj(name=S, next={"$ref": "#/$defs/node"})}}

    assert moved(held, {**held, "title": "T"}) == held
    changed = moved(held, loose)
    InputCheck().check(Contract(changed), {"x": {}})
    assert not compare(Contract(held), Contract(changed)).differences


def test_of_a_contract_that_would_become_enormous_only_the_variables_own_names_are_followed() -> None:
    levels: dict[str, Any] = {
        f"l{level}": obj(
            *[f"p{n}" for n in range(10)], **{f"p{n}": {"$ref": f"#/$defs/l{level + 1}"} for n in range(10)}
        )
        for level in range(6)
    }
    held = {**obj("x", x={"$ref": "#/$defs/l0"}, y=S), "$defs": {**levels, "l6": S}}

    found = moved(held, obj("y", x={}, y=S))

    assert found["required"] == ["y"]
    assert len(dump(found)) < 2 * len(dump(held))


NAMES = ["a", "b", "c"]
OBJECTS: st.SearchStrategy[Any] = st.recursive(
    st.just({"type": "string"}),
    lambda inner: st.builds(
        lambda properties, required: obj(*required, **properties),
        st.dictionaries(st.sampled_from(NAMES), inner, min_size=1),
        st.lists(st.sampled_from(NAMES), unique=True),
    ),
    max_leaves=12,
).filter(lambda schema: schema["type"] == "object")
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.just("x"), lambda inner: st.dictionaries(st.sampled_from(NAMES), inner), max_leaves=12
)


def is_valid(schema: Any, value: Any) -> bool:
    try:
        InputCheck().check(Contract(schema), value)
    except Invalid:
        return False
    return True


def redrawn(schema: Any, data: st.DataObject) -> Any:
    """The same properties, with others of them required."""
    if schema["type"] != "object":
        return schema
    properties = {name: redrawn(part, data) for name, part in schema["properties"].items()}
    return obj(*data.draw(st.lists(st.sampled_from(sorted(properties)), unique=True)), **properties)


@given(OBJECTS, st.data(), st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_a_move_to_the_same_variables_takes_exactly_what_the_new_variants_do(
    schema: Any, data: st.DataObject, value: Any
) -> None:
    held, offered = redrawn(schema, data), redrawn(schema, data)

    assert is_valid(moved(held, offered), value) is is_valid(offered, value)


@given(OBJECTS, st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_only_what_is_refused_misses_anything(schema: Any, value: Any) -> None:
    if InputCheck().missing(Contract(schema), value):
        assert not is_valid(schema, value)
