import pytest

from completions.contract import Contract, Kind, Verdict, compare, removed_last_user
from kit.json import Json

S: Json = {"type": "string"}
I: Json = {"type": "integer"}  # noqa: E741
N: Json = {"type": "number"}
B: Json = {"type": "boolean"}
NULL: Json = {"type": "null"}
ANY: Json = {}


def obj(_required: tuple[str, ...] = (), **properties: Json) -> dict[str, Json]:
    schema: dict[str, Json] = {"type": "object", "properties": properties}
    return {**schema, "required": list(_required)} if _required else schema


def named(name: str, schema: Json) -> dict[str, Json]:
    return {"type": "object", "properties": {name: schema}}


def arr(items: Json) -> dict[str, Json]:
    return {"type": "array", "items": items}


def any_of(*branches: Json) -> dict[str, Json]:
    return {"anyOf": list(branches)}


def one_of(*branches: Json) -> dict[str, Json]:
    return {"oneOf": list(branches)}


def all_of(*branches: Json) -> dict[str, Json]:
    return {"allOf": list(branches)}


def ref(pointer: str, **defs: Json) -> dict[str, Json]:
    return {"$ref": pointer, **({"$defs": defs} if defs else {})}


NODE = obj(name=S, next={"$ref": "#/$defs/Node"})
NODE_INT = obj(name=I, next={"$ref": "#/$defs/Node"})
TREE = obj(name=S, next=obj(name=S, next={"$ref": "#/$defs/Node"}))
PING: dict[str, Json] = {"$defs": {"A": obj(n=S, o={"$ref": "#/$defs/B"}), "B": obj(n=S, o={"$ref": "#/$defs/A"})}}
SELF: dict[str, Json] = {"$defs": {"A": obj(n=S, o={"$ref": "#/$defs/A"})}}
EQ, OK, NO = Verdict.EQUAL, Verdict.COMPATIBLE, Verdict.DIFFERENT

# What stands for a property `x` on both sides, the verdict, and the paths below `variables` that are named.
PAIRS: list[tuple[str, Json, Json, Verdict, list[str]]] = [
    # Types.
    ("same", S, S, EQ, []),
    ("other type", S, I, NO, ["x"]),
    ("integer and number", I, N, NO, ["x"]),
    ("string and boolean", S, B, NO, ["x"]),
    ("null and string", NULL, S, NO, ["x"]),
    ("null and nothing", NULL, False, EQ, []),
    ("null and null", NULL, NULL, EQ, []),
    ("object and array", obj(), arr(S), NO, ["x"]),
    ("string and object", S, obj(a=S), NO, ["x"]),
    # Annotations are no difference, and limits are worth a warning.
    ("title", S, {"type": "string", "title": "T"}, EQ, []),
    ("description", S, {"type": "string", "description": "d"}, EQ, []),
    ("examples", S, {"type": "string", "examples": ["a"]}, EQ, []),
    ("default", S, {"type": "string", "default": "a"}, EQ, []),
    ("format", S, {"type": "string", "format": "email"}, EQ, []),
    ("limits", {"type": "integer", "minimum": 1}, {"type": "integer", "maximum": 9}, OK, ["x"]),
    ("limits narrowed", {"type": "integer", "maximum": 9}, {"type": "integer", "maximum": 8}, OK, ["x"]),
    ("limits widened", {"type": "integer", "maximum": 8}, {"type": "integer", "maximum": 9}, OK, ["x"]),
    ("limits the same", {"type": "integer", "maximum": 8}, {"type": "integer", "maximum": 8.0}, EQ, []),
    ("limits that are none", S, {"type": "string", "minLength": 0, "minItems": 3}, EQ, []),
    ("limits of a list", arr({"type": "string", "pattern": "a"}), arr(S), OK, ["x[]"]),
    (
        "limits of a nullable",
        {"type": "integer", "minimum": 1},
        any_of({"type": "integer", "minimum": 2}, NULL),
        OK,
        ["x"],
    ),
    ("limits of a part", S, {"allOf": [S, {"type": "string", "minLength": 1}]}, OK, ["x"]),
    ("limits beside a part", S, {"allOf": [S], "minLength": 1}, OK, ["x"]),
    ("limits in one branch", S, any_of(S, {"type": "string", "minLength": 1}), EQ, []),
    (
        "limits in all branches",
        {"type": "string", "minLength": 1},
        any_of({"type": "string", "pattern": "a"}, {"type": "string", "minLength": 1}),
        OK,
        ["x"],
    ),
    (
        "limits of branches permuted",
        any_of({"type": "string", "minLength": 1}, {"type": "string", "pattern": "a"}),
        any_of({"type": "string", "pattern": "a"}, {"type": "string", "minLength": 1}),
        EQ,
        [],
    ),
    ("length", S, {"type": "string", "minLength": 3, "pattern": "^a"}, OK, ["x"]),
    ("items limits", arr(S), {**arr(S), "minItems": 2, "uniqueItems": True}, OK, ["x"]),
    ("additionalProperties false", obj(a=S), {**obj(a=S), "additionalProperties": False}, OK, ["x"]),
    ("additionalProperties true", obj(a=S), {**obj(a=S), "additionalProperties": True}, EQ, []),
    ("additionalProperties typed", obj(a=S), {**obj(a=S), "additionalProperties": S}, OK, ["x.*"]),
    ("additionalProperties of any type", obj(a=S), {**obj(a=S), "additionalProperties": {}}, EQ, []),
    ("unknown keyword", S, {"type": "string", "x-order": 3}, EQ, []),
    ("conditions", obj(a=S), {**obj(a=S), "if": {"required": ["a"]}, "then": {"maxProperties": 1}}, OK, ["x"]),
    ("not", S, {"type": "string", "not": {"const": "a"}}, OK, ["x"]),
    # Required and enum are no difference, but narrowing warns.
    ("enum equal", {"type": "string", "enum": ["a", "b"]}, {"type": "string", "enum": ["b", "a"]}, EQ, []),
    ("enum new", S, {"type": "string", "enum": ["a"]}, OK, ["x"]),
    ("enum narrowed", {"type": "string", "enum": ["a", "b"]}, {"type": "string", "enum": ["a"]}, OK, ["x"]),
    ("enum widened", {"type": "string", "enum": ["a"]}, {"type": "string", "enum": ["a", "b"]}, EQ, []),
    ("enum dropped", {"type": "string", "enum": ["a"]}, S, EQ, []),
    ("enum disjoint", {"type": "string", "enum": ["a"]}, {"type": "string", "enum": ["b"]}, OK, ["x"]),
    ("const as enum", {"const": "a"}, {"enum": ["a"]}, EQ, []),
    ("enum numbers", {"enum": [1, 2]}, {"enum": [2.0, 1.0]}, EQ, []),
    ("enum true is not one", {"enum": [True]}, {"enum": [1]}, NO, ["x"]),
    ("required new", obj(a=S), obj(("a",), a=S), OK, ["x.a"]),
    ("required dropped", obj(("a",), a=S), obj(a=S), EQ, []),
    ("required stays", obj(("a",), a=S), obj(("a",), a=S), EQ, []),
    # const and enum say the type.
    ("enum says string", {"enum": ["a", "b"]}, {"type": "string", "enum": ["a", "b"]}, EQ, []),
    ("const says integer", {"const": 3}, {"type": "integer", "const": 3}, EQ, []),
    ("const says integer, not string", {"const": 3}, S, NO, ["x"]),
    ("enum with a fraction", {"enum": [1, 1.5]}, {"type": "number", "enum": [1, 1.5]}, EQ, []),
    ("enum with null", {"enum": ["a", None]}, {"enum": ["a"]}, EQ, []),
    ("const object", {"const": {"a": 1}}, {"type": "object", "properties": {"a": I}}, EQ, []),
    ("const object, other member", {"const": {"a": 1}}, obj(a=S), NO, ["x.a"]),
    ("const list", {"const": ["a"]}, {"type": "array", "items": S}, EQ, []),
    ("type wins over enum", {"type": "string", "enum": [1]}, {"type": "string"}, EQ, []),
    # Null and optional.
    ("nullable by list", S, {"type": ["string", "null"]}, EQ, []),
    ("nullable by anyOf", S, any_of(S, NULL), EQ, []),
    ("nullable by oneOf", any_of(S, NULL), one_of(NULL, S), EQ, []),
    ("nullable both ways", {"type": ["null", "string"]}, any_of(S, NULL), EQ, []),
    ("nullable other type", {"type": ["string", "null"]}, {"type": ["integer", "null"]}, NO, ["x"]),
    ("nullable object", obj(a=S), any_of(obj(a=S), NULL), EQ, []),
    ("nullable object, changed", obj(a=S), any_of(obj(a=I), NULL), NO, ["x.a"]),
    ("nullable list", arr(S), {"type": ["array", "null"], "items": S}, EQ, []),
    # Unions are sets.
    ("union permuted", {"type": ["string", "integer"]}, {"type": ["integer", "string"]}, EQ, []),
    ("union by anyOf", {"type": ["string", "integer"]}, any_of(I, S), EQ, []),
    ("union repeated", any_of(S, S), S, EQ, []),
    ("union nested", any_of(S, any_of(I, B)), any_of(B, I, S), EQ, []),
    ("union grown", S, any_of(S, I), NO, ["x"]),
    ("union shrunk", any_of(S, I), S, NO, ["x"]),
    ("unions with nothing in common", any_of(S, I), any_of(B, arr(S)), NO, ["x"]),
    ("number includes integer", {"type": ["integer", "number"]}, N, EQ, []),
    ("union of objects permuted", any_of(obj(a=S), obj(b=I)), any_of(obj(b=I), obj(a=S)), EQ, []),
    ("union of objects, one changed", any_of(obj(a=S), obj(b=I)), any_of(obj(b=S), obj(a=S)), NO, ["x.b"]),
    ("union of objects, one more", any_of(obj(a=S), obj(b=I)), any_of(obj(a=S), obj(b=I), obj(c=S)), NO, ["x"]),
    ("union of objects, one of two", any_of(obj(a=S), obj(b=I)), obj(a=S), NO, ["x"]),
    ("union of lists", any_of(arr(S), arr(I)), any_of(arr(I), arr(S)), EQ, []),
    ("union of lists, changed", any_of(arr(S), arr(I)), any_of(arr(I), arr(B)), NO, ["x[]"]),
    (
        "tagged union",
        one_of(obj(k={"const": "a"}, v=S), obj(k={"const": "b"}, v=S)),
        one_of(obj(k={"const": "b"}, v=S), obj(k={"const": "a"}, v=S)),
        EQ,
        [],
    ),
    # Unknown types.
    ("takes the contract's", S, ANY, EQ, []),
    ("takes the contract's object", obj(a=S), True, EQ, []),
    ("unknown became known", ANY, S, OK, ["x"]),
    ("unknown stays", ANY, ANY, EQ, []),
    ("unknown by description only", {"description": "d"}, {"title": "t"}, OK, ["x"]),
    ("union with anything", any_of(S, ANY), any_of(S, I), OK, ["x"]),
    ("list without items", arr(S), {"type": "array"}, EQ, []),
    ("list without items became known", {"type": "array"}, arr(S), OK, ["x[]"]),
    ("list without items stays", {"type": "array"}, {"type": "array"}, EQ, []),
    ("unknown below", obj(a=S, b=ANY), obj(a=ANY, b=ANY), OK, ["x.b"]),
    # Objects.
    ("property added", obj(a=S), obj(a=S, b=S), NO, ["x.b"]),
    ("property removed", obj(a=S, b=S), obj(a=S), NO, ["x.b"]),
    ("property renamed", obj(a=S), obj(b=S), NO, ["x.a", "x.b"]),
    ("order of properties", obj(a=S, b=I), obj(b=I, a=S), EQ, []),
    ("two changed", obj(a=S, b=I, c=B), obj(a=I, b=S, c=B), NO, ["x.a", "x.b"]),
    ("deep", obj(a=obj(b=arr(obj(c=S)))), obj(a=obj(b=arr(obj(c=I)))), NO, ["x.a.b[].c"]),
    ("object without type", {"properties": {"a": S}}, obj(a=S), EQ, []),
    ("object without properties", {"type": "object"}, obj(), EQ, []),
    ("object without properties, some", {"type": "object"}, obj(a=S), NO, ["x.a"]),
    ("odd name", named("a b", S), named("a b", I), NO, ['x["a b"]']),
    ("hyphen", named("a-b", S), named("a-b", I), NO, ["x.a-b"]),
    ("pattern properties", {"patternProperties": {"^x": S}}, {"patternProperties": {"^x": I}}, NO, ["x./^x/"]),
    ("map", {"type": "object", "additionalProperties": S}, {"type": "object", "additionalProperties": S}, EQ, []),
    ("map changed", {"type": "object", "additionalProperties": S}, {"additionalProperties": I}, OK, ["x.*"]),
    (
        "map of objects changed",
        {"additionalProperties": obj(a=S)},
        {"additionalProperties": obj(b=S)},
        OK,
        ["x.*.a", "x.*.b"],
    ),
    # Arrays and tuples.
    ("items", arr(S), arr(I), NO, ["x[]"]),
    ("array without type", {"items": S}, arr(S), EQ, []),
    ("tuple", {"prefixItems": [S, I]}, {"prefixItems": [S, I]}, EQ, []),
    ("tuple after the first", {"prefixItems": [S, I]}, {"prefixItems": [S, S]}, NO, ["x[1]"]),
    ("tuple by a list of items", {"type": "array", "items": [S, I]}, {"prefixItems": [S, I]}, EQ, []),
    ("tuple rest", {"items": [S], "additionalItems": I}, {"prefixItems": [S], "items": S}, NO, ["x[]"]),
    ("tuple longer", {"prefixItems": [S], "items": False}, {"prefixItems": [S, S], "items": False}, NO, ["x[1]"]),
    ("tuple and list", {"prefixItems": [S, S], "items": S}, arr(S), EQ, []),
    # Booleans.
    ("true and true", True, True, EQ, []),
    ("true and one", {"default": True}, {"default": 1}, OK, ["x"]),
    ("false and false", False, False, EQ, []),
    ("false and string", False, S, NO, ["x"]),
    ("false in a union", any_of(S, False), S, EQ, []),
    ("false items", arr(False), arr(S), NO, ["x[]"]),
    # allOf.
    ("allOf of one", all_of(S), S, EQ, []),
    ("allOf with a limit", all_of(S, {"minLength": 3}), S, EQ, []),
    ("allOf of objects", all_of(obj(a=S), obj(b=I)), obj(a=S, b=I), EQ, []),
    ("allOf of objects, one property twice", all_of(obj(a=S), obj(a={"minLength": 1})), obj(a=S), EQ, []),
    ("allOf beside properties", {**obj(a=S), "allOf": [obj(b=I)]}, obj(a=S, b=I), EQ, []),
    ("allOf changed", all_of(obj(a=S), obj(b=I)), all_of(obj(a=S), obj(b=S)), NO, ["x.b"]),
    ("allOf of types", all_of({"type": ["string", "integer"]}, {"type": ["integer", "boolean"]}), I, EQ, []),
    ("allOf of number and integer", all_of(N, I), I, EQ, []),
    ("allOf that nothing satisfies", all_of(S, I), S, NO, ["x"]),
    ("allOf of lists", all_of(arr(ANY), arr(S)), arr(S), EQ, []),
    ("allOf over a union", all_of(any_of(S, obj(a=S)), any_of(I, obj(b=S))), obj(a=S, b=S), EQ, []),
    ("anyOf of requirements", {**obj(a=S), "anyOf": [{"required": ["a"]}, {"minProperties": 1}]}, obj(a=S), EQ, []),
    ("allOf enum", all_of({"enum": ["a", "b"]}, {"enum": ["b", "c"]}), {"enum": ["b"]}, EQ, []),
]


@pytest.mark.parametrize(("held", "offered", "verdict", "named"), [row[1:] for row in PAIRS], ids=[r[0] for r in PAIRS])
def test_a_pair_of_schemas_has_its_verdict(held: Json, offered: Json, verdict: Verdict, named: list[str]) -> None:
    found = compare(Contract(obj(x=held)), Contract(obj(x=offered)))

    assert found.verdict is verdict
    assert [one.path for one in found.differences or found.warnings] == [f"variables.{path}" for path in named]


@pytest.mark.parametrize(("held", "offered", "verdict"), [(r[1], r[2], r[3]) for r in PAIRS], ids=[r[0] for r in PAIRS])
def test_what_differs_one_way_differs_the_other_way(held: Json, offered: Json, verdict: Verdict) -> None:
    found = compare(Contract(obj(x=offered)), Contract(obj(x=held)))

    assert (found.verdict is NO) is (verdict is NO)


WHOLE: list[tuple[str, dict[str, Json] | None, dict[str, Json] | None, Verdict, list[str]]] = [
    ("none", None, None, EQ, []),
    ("none and empty", None, {}, EQ, []),
    ("none and no properties", None, obj(), EQ, []),
    ("none and one", None, obj(city=S), NO, ["variables.city"]),
    ("one and none", obj(city=S), None, NO, ["variables.city"]),
    ("page's age", obj(name=S, age=I), obj(name=S, age=I, city=S), NO, ["variables.city"]),
    ("renamed", obj(country=S), obj(destination=S), NO, ["variables.country", "variables.destination"]),
    ("root ref", ref("#/$defs/R", R=obj(a=S)), obj(a=S), EQ, []),
    (
        "root ref to another object",
        ref("#/$defs/R", R=obj(a=S)),
        ref("#/$defs/R", R=obj(b=S)),
        NO,
        ["variables.a", "variables.b"],
    ),
    ("root ref by definitions", {"$ref": "#/definitions/R", "definitions": {"R": obj(a=S)}}, obj(a=S), EQ, []),
    ("root anyOf null", any_of(obj(a=S), NULL), obj(a=S), EQ, []),
    ("root beside branches", {**obj(a=ANY), **any_of(obj(a=S), NULL)}, obj(a=S), EQ, []),
    ("ref", {**obj(a=ref("#/$defs/T")), "$defs": {"T": S}}, obj(a=S), EQ, []),
    ("ref to another type", {**obj(a=ref("#/$defs/T")), "$defs": {"T": S}}, obj(a=I), NO, ["variables.a"]),
    ("ref to a property", obj(a=S, b=ref("#/properties/a")), obj(a=S, b=S), EQ, []),
    ("ref with ~1", {**obj(a=ref("#/$defs/x~1y")), "$defs": {"x/y": S}}, obj(a=S), EQ, []),
    ("ref with ~0", {**obj(a=ref("#/$defs/x~0y")), "$defs": {"x~y": S}}, obj(a=S), EQ, []),
    ("ref with ~01", {**obj(a=ref("#/$defs/x~01y")), "$defs": {"x~1y": S}}, obj(a=S), EQ, []),
    ("ref with %", {**obj(a=ref("#/$defs/x%20%25y")), "$defs": {"x %y": S}}, obj(a=S), EQ, []),
    ("ref through a list", {**obj(a=ref("#/$defs/T/anyOf/1")), "$defs": {"T": any_of(S, I)}}, obj(a=I), EQ, []),
    ("ref to a ref", {**obj(a=ref("#/$defs/T")), "$defs": {"T": ref("#/$defs/U"), "U": S}}, obj(a=S), EQ, []),
    (
        "ref with a description",
        {**obj(a={**ref("#/$defs/T"), "description": "d"}), "$defs": {"T": S}},
        obj(a=S),
        EQ,
        [],
    ),
    ("ref in items", {**obj(a=arr(ref("#/$defs/T"))), "$defs": {"T": S}}, obj(a=arr(I)), NO, ["variables.a[]"]),
    ("ref in anyOf", {**obj(a=any_of(ref("#/$defs/T"), NULL)), "$defs": {"T": S}}, obj(a=S), EQ, []),
    ("ref to true", {**obj(a=ref("#/$defs/T")), "$defs": {"T": True}}, obj(a=S), OK, ["variables.a"]),
    (
        "recursive",
        {**obj(n=ref("#/$defs/Node")), "$defs": {"Node": NODE}},
        {**obj(n=ref("#/$defs/Node")), "$defs": {"Node": NODE}},
        EQ,
        [],
    ),
    (
        "recursive, unrolled",
        {**obj(n=TREE), "$defs": {"Node": NODE}},
        {**obj(n=ref("#/$defs/Node")), "$defs": {"Node": NODE}},
        EQ,
        [],
    ),
    (
        "recursive, changed",
        {**obj(n=ref("#/$defs/Node")), "$defs": {"Node": NODE}},
        {**obj(n=ref("#/$defs/Node")), "$defs": {"Node": NODE_INT}},
        NO,
        ["variables.n.name"],
    ),
    ("recursive by the root", obj(a=S, child=ref("#")), obj(a=S, child=ref("#")), EQ, []),
    (
        "recursive by the root, changed",
        obj(a=S, child=ref("#")),
        obj(a=S, child=obj(a=S)),
        NO,
        ["variables.child.child"],
    ),
    ("mutually recursive", {**obj(x=ref("#/$defs/A")), **PING}, {**obj(x=ref("#/$defs/A")), **SELF}, EQ, []),
    (
        "every path to a shared schema",
        {**obj(a=ref("#/$defs/T"), b=ref("#/$defs/T")), "$defs": {"T": obj(x=S)}},
        {**obj(a=ref("#/$defs/T"), b=ref("#/$defs/T")), "$defs": {"T": obj(x=I)}},
        NO,
        ["variables.a.x", "variables.b.x"],
    ),
]


@pytest.mark.parametrize(("held", "offered", "verdict", "named"), [row[1:] for row in WHOLE], ids=[r[0] for r in WHOLE])
def test_a_pair_of_documents_has_its_verdict(
    held: dict[str, Json] | None, offered: dict[str, Json] | None, verdict: Verdict, named: list[str]
) -> None:
    found = compare(Contract(held), Contract(offered))

    assert found.verdict is verdict
    assert [one.path for one in found.differences or found.warnings] == named
    assert (compare(Contract(offered), Contract(held)).verdict is NO) is (verdict is NO)


def test_a_difference_names_the_path_and_both_sides() -> None:
    found = compare(
        Contract(obj(trips=arr(obj(city=S)), country=S, age=I)),
        Contract(obj(trips=arr(obj(city=arr(I))), age={"type": ["integer", "string"]}, days=N)),
    )

    assert [(one.path, one.kind, one.before, one.after) for one in found.differences] == [
        ("variables.age", Kind.TYPE_CHANGED, "integer", "integer or string"),
        ("variables.country", Kind.PROPERTY_REMOVED, "string", "absent"),
        ("variables.days", Kind.PROPERTY_ADDED, "absent", "number"),
        ("variables.trips[].city", Kind.TYPE_CHANGED, "string", "list of integer"),
    ]
    assert [one.sentence for one in found.differences] == [
        "variables.age was integer and is integer or string",
        "variables.country (string) is gone: callers may still send it",
        "variables.days (number) is new: callers do not send it",
        "variables.trips[].city was string and is list of integer",
    ]


def test_a_narrowed_enum_says_what_it_was() -> None:
    warning = compare(Contract(obj(tone={"enum": ["warm", "dry"]})), Contract(obj(tone={"enum": ["dry"]}))).warnings[0]

    assert (warning.kind, warning.before, warning.after) == (Kind.ENUM_NARROWED, '"dry", "warm"', '"dry"')
    assert warning.sentence == 'variables.tone allows less: it was "dry", "warm" and is "dry"'


def test_changed_limits_say_what_they_were() -> None:
    held = obj(days={"type": "integer", "minimum": 1, "maximum": 9}, tags=arr(S))
    offered = obj(days={"type": "integer", "minimum": 2, "maximum": 9}, tags={**arr(S), "uniqueItems": True})

    warnings = compare(Contract(held), Contract(offered)).warnings

    assert [(one.path, one.kind, one.before, one.after) for one in warnings] == [
        ("variables.days", Kind.LIMIT_CHANGED, "minimum 1", "minimum 2"),
        ("variables.tags", Kind.LIMIT_CHANGED, "none", "uniqueItems true"),
    ]
    assert warnings[0].sentence == "variables.days has other limits: they were minimum 1 and are minimum 2"


def test_equal_schemas_are_equal_in_whatever_order_they_are_written() -> None:
    listed: Json = {"type": "array", "minItems": 1}
    one = obj(a=ANY, b=listed)
    other: dict[str, Json] = {"properties": {"b": {"minItems": 1.0, "type": "array"}, "a": {}}, "type": "object"}

    assert compare(Contract(one), Contract(other)).verdict is EQ
    assert compare(Contract(one), Contract(obj(a={"title": "A"}, b=listed))).verdict is OK


def test_unions_that_read_alike_are_told_apart_by_their_properties() -> None:
    found = compare(Contract(obj(x=any_of(obj(a=S), obj(b=S)))), Contract(obj(x=any_of(obj(a=S), obj(b=S), obj(c=S)))))

    assert found.differences[0].before == "object {a} or object {b}"
    assert found.differences[0].after == "object {a} or object {b} or object {c}"


def test_a_variable_that_lost_its_last_user_is_named() -> None:
    held = Contract(obj(country=S, user=obj(name=S, age=I), trips=arr(obj(city=S, days=I))))
    offered = Contract(obj(user=obj(name=I), trips=arr(obj(city=S)), new=S))

    removed = removed_last_user(held, offered)

    assert removed == ("variables.country", "variables.trips[].days", "variables.user.age")
    left = compare(held, offered).without(removed)
    assert [one.path for one in left.differences] == ["variables.new", "variables.user.name"]


def test_a_name_that_is_required_without_a_property_is_warned_of() -> None:
    found = compare(Contract({}), Contract({"required": ["zz"]}))

    assert (found.verdict, [(each.path, each.kind) for each in found.warnings]) == (
        Verdict.COMPATIBLE,
        [("variables.zz", Kind.REQUIRED_ADDED)],
    )
