from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.contract import Contract, InputCheck, compare, moved
from kit.json import Json, dump


def obj(*required: str, **properties: Any) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    return {**schema, "required": list(required)} if required else schema


S: dict[str, Json] = {"type": "string"}
I: dict[str, Json] = {"type": "integer"}  # noqa: E741  # short, beside S
SHORT: Json = {"type": "string", "maxLength": 3}
LONG: Json = {"type": "string", "maxLength": 9}


def after(held: Any, offered: Any) -> Any:
    return moved(Contract(held), Contract(offered)).variables


@pytest.mark.parametrize(
    "offered",
    [
        obj(q={"enum": ["r"]}),
        obj(q=SHORT),
        obj("q", q=S),
        {**obj(q=S), "additionalProperties": False},
        obj(q={**S, "pattern": "^a", "title": "Q", "examples": ["abc"]}),
    ],
)
def test_limits_are_those_of_what_is_served_now(offered: Any) -> None:
    assert after(obj(q={"type": "string", "enum": ["q"], "minLength": 1}), offered) == offered


@pytest.mark.parametrize(
    ("held", "offered", "kept"),
    [
        (obj("a", "b", a=SHORT, b=SHORT), obj("a", a=LONG), obj("a", a=LONG, b=SHORT)),
        (obj("a", a=SHORT), None, obj(a=SHORT)),
        (
            obj(user=obj("name", name=S, age=SHORT)),
            obj("user", user=obj(name=LONG)),
            obj("user", user=obj(age=SHORT, name=LONG)),
        ),
        (
            obj(users={"type": "array", "items": obj(name=S, age=S), "maxItems": 1}),
            obj(users={"type": "array", "items": obj(name=S)}),
            obj(users={"type": "array", "items": obj(age=S, name=S)}),
        ),
        (
            {**obj(a={"$ref": "#/$defs/u"}, b={"$ref": "#/$defs/u"}), "$defs": {"u": obj("n", n=S, m=S)}},
            obj(a=obj("m", n=S, m=LONG)),
            {**obj(a=obj("m", n=S, m=LONG), b=obj(n=S, m=S))},
        ),
    ],
)
def test_variables_that_callers_may_still_send_stay_with_their_limits(held: Any, offered: Any, kept: Any) -> None:
    assert after(held, offered) == kept


def test_what_had_no_known_type_comes_to_have_one() -> None:
    anything, hotel, several = obj(hotel={}), obj(hotel=obj(name=S)), obj(hotel={"type": "array", "items": S})

    assert after(anything, hotel) == hotel
    assert compare(Contract(after(anything, hotel)), Contract(several)).differences


@pytest.mark.parametrize("known", [S, obj(name=S), {"type": "array", "items": S}, {"anyOf": [S, {"type": "null"}]}])
def test_a_type_that_is_known_stays_where_nothing_says_one(known: Any) -> None:
    held = after(obj(hotel=known, q=SHORT), obj("hotel", hotel={"title": "Hotel"}, q=LONG))

    assert held["properties"]["q"] == LONG
    assert held["required"] == ["hotel"]
    assert not compare(Contract(obj(hotel=known, q=LONG)), Contract(held)).differences
    assert compare(Contract(held), Contract(obj(hotel=I, q=S))).differences


def test_types_stay_without_the_limits_that_nobody_has_any_more() -> None:
    held = after(obj(q=SHORT), obj(q={}))

    InputCheck().check(Contract(held), {"q": "much longer"})


def test_a_member_that_one_branch_of_a_union_lost_stays() -> None:
    held = obj(u={"anyOf": [obj(x=S, y=S), {"type": "null"}]})
    union = obj(u={"anyOf": [obj(x=S, y=S), obj(z=S)]})

    for one, other in ((held, obj(u={"anyOf": [obj("x", x=S), {"type": "null"}]})), (union, obj(u=union))):
        assert not compare(Contract(after(one, other)), Contract(one)).differences
    assert after(union, obj(u={"anyOf": [obj(x=S), obj(z=S)]})) == union


def test_recursive_schemas_end() -> None:
    node = obj("name", name=S, age=S, next={"$ref": "#/$defs/node"})
    held = {**obj(x={"$ref": "#/$defs/node"}, y=S), "$defs": {"node": node}}
    less = {**obj(x={"$ref": "#/$defs/node"}), "$defs": {"node": obj(name=LONG, next={"$ref": "#/$defs/node"})}}

    assert after(held, {**held, "title": "T"}) == {**held, "title": "T"}
    assert not compare(Contract(after(held, less)), Contract({**held})).differences


def test_long_chains_and_many_branches_of_references_end() -> None:
    def referring(count: int, *names: str) -> dict[str, Json]:
        return {
            f"l{level}": obj(**{name: {"$ref": f"#/$defs/l{level + 1}"} for name in names}) for level in range(count)
        }

    for count, names in ((600, ["p"]), (7, [f"p{n}" for n in range(10)])):
        definitions = {**referring(count, *names), f"l{count}": SHORT}
        held = {**obj(x={"$ref": "#/$defs/l0"}, y=S), "$defs": definitions}
        offered = {**obj("x", x={"$ref": "#/$defs/l0"}), "$defs": {**definitions, f"l{count}": LONG}}

        for other in (obj("x", x={}), {**obj("z", z=S)}, *([offered] if count < 128 else [])):
            found = after(held, other)

            assert len(dump(found)) < 3 * len(dump(held))


def test_answers_are_those_of_what_is_served_now_but_for_types_that_only_the_contract_knows() -> None:
    def answers(**properties: Json) -> dict[str, Json]:
        return {"type": "json_schema", "json_schema": {"name": "a", "schema": obj(**properties)}}

    def of(held: dict[str, Json], offered: dict[str, Json]) -> Any:
        return moved(Contract(None, held), Contract(None, offered)).response_format

    assert of(answers(a={}), answers(a=S)) == answers(a=S)
    assert of(answers(a=SHORT), answers(a=LONG)) == answers(a=LONG)
    assert of(answers(a=S), answers(a={})) == answers(a=S)


LEAVES: list[Any] = [S, SHORT, LONG, {"type": "string", "enum": ["a", "b"]}, {}]
NAMES = ["a", "b", "c"]
OBJECTS: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.builds(
        lambda properties: obj(**properties), st.dictionaries(st.sampled_from(NAMES), inner, min_size=1)
    ),
    max_leaves=10,
).filter(lambda schema: schema.get("type") == "object")


def redrawn(schema: Any, data: st.DataObject) -> Any:
    """The same types, as far as they stay known, with other limits, fewer members, and others of them required."""
    if "properties" not in schema:
        return data.draw(st.sampled_from(LEAVES))
    names = data.draw(st.lists(st.sampled_from(sorted(schema["properties"])), unique=True))
    required = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
    return obj(*required, **{name: redrawn(schema["properties"][name], data) for name in names})


@given(OBJECTS, st.data())
def test_whatever_it_moves_to_an_alias_forgets_no_name_and_no_type(schema: Any, data: st.DataObject) -> None:
    offered = redrawn(schema, data)

    held = after(schema, offered)

    for other in (schema, offered):
        found = compare(Contract(held), Contract(other))
        assert {each.kind for each in found.differences} <= {"property_removed"}
        assert not [each for each in found.warnings if each.kind == "type_unknown" and each.after != "any type"]
    assert after(held, offered) == held
