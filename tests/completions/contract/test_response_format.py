import pytest

from completions.contract import Contract, Verdict, compare, removed_last_user
from kit.errors import Invalid
from kit.json import Json

S: Json = {"type": "string"}
I: Json = {"type": "integer"}  # noqa: E741
EQ, OK, NO = Verdict.EQUAL, Verdict.COMPATIBLE, Verdict.DIFFERENT


def obj(_required: tuple[str, ...] = (), **properties: Json) -> dict[str, Json]:
    schema: dict[str, Json] = {"type": "object", "properties": properties}
    return {**schema, "required": list(_required)} if _required else schema


def arr(items: Json) -> dict[str, Json]:
    return {"type": "array", "items": items}


def ref(pointer: str, **defs: Json) -> dict[str, Json]:
    return {"$ref": pointer, **({"$defs": defs} if defs else {})}


def answer(schema: Json, **more: Json) -> dict[str, Json]:
    return {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, **more}}


TEXT: dict[str, Json] = {"type": "text"}
OBJECT: dict[str, Json] = {"type": "json_object"}
FORMATS: list[tuple[str, dict[str, Json] | None, dict[str, Json] | None, Verdict, list[str]]] = [
    ("absent", None, None, EQ, []),
    ("absent and text", None, TEXT, EQ, []),
    ("objects", OBJECT, OBJECT, EQ, []),
    ("text and object", None, OBJECT, NO, ["response_format"]),
    ("text and schema", TEXT, answer(obj(a=S)), NO, ["response_format"]),
    ("object and schema", OBJECT, answer(obj(a=S)), NO, ["response_format"]),
    ("schemas", answer(obj(a=S)), answer(obj(a=S)), EQ, []),
    ("name", answer(obj(a=S)), answer(obj(a=S), name="m"), EQ, []),
    ("strict", answer(obj(a=S)), answer(obj(a=S), strict=True), EQ, []),
    ("description", answer(obj(a=S)), answer(obj(a=S), description="d"), EQ, []),
    (
        "the SDK's strict form of a schema",
        answer(obj(a=S)),
        answer({**obj(("a",), a={"type": "string", "title": "A"}), "additionalProperties": False}, strict=True),
        OK,
        ["response_format.schema", "response_format.schema.a"],
    ),
    ("limits", answer(obj(a=S)), answer(obj(a={"type": "string", "maxLength": 9})), OK, ["response_format.schema.a"]),
    ("the same, of unknown type", answer(obj(a={})), answer(obj(a={})), EQ, []),
    ("type", answer(obj(answer=S)), answer(obj(answer=I)), NO, ["response_format.schema.answer"]),
    ("added", answer(obj(a=S)), answer(obj(a=S, b=S)), NO, ["response_format.schema.b"]),
    ("root", answer(obj(a=S)), answer(arr(S)), NO, ["response_format.schema"]),
    ("no schema", answer(None), answer(obj(a=S)), OK, ["response_format.schema"]),
    ("no longer required", answer(obj(("a",), a=S)), answer(obj(a=S)), OK, ["response_format.schema.a"]),
    (
        "more values",
        answer(obj(a={"enum": ["x"]})),
        answer(obj(a={"enum": ["x", "y"]})),
        OK,
        ["response_format.schema.a"],
    ),
    (
        "root ref",
        answer(ref("#/$defs/R", R=obj(a=S))),
        answer(ref("#/$defs/R", R=obj(a=I))),
        NO,
        ["response_format.schema.a"],
    ),
]


@pytest.mark.parametrize(
    ("held", "offered", "verdict", "named"), [row[1:] for row in FORMATS], ids=[row[0] for row in FORMATS]
)
def test_a_pair_of_response_formats_has_its_verdict(
    held: dict[str, Json] | None, offered: dict[str, Json] | None, verdict: Verdict, named: list[str]
) -> None:
    found = compare(Contract(None, held), Contract(None, offered))

    assert found.verdict is verdict
    assert [one.path for one in found.differences or found.warnings] == named


@pytest.mark.parametrize(
    "given",
    [{}, {"type": "xml"}, {"type": None}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": []}],
)
def test_a_response_format_of_no_known_form_is_refused(given: dict[str, Json]) -> None:
    with pytest.raises(Invalid) as refusal:
        compare(Contract(), Contract(None, given))

    assert refusal.value.reason == "RESPONSE_FORMAT_MALFORMED"
    assert refusal.value.violations[0].field.startswith("response_format")


def test_an_answer_s_property_is_no_variable_that_lost_its_user() -> None:
    assert removed_last_user(Contract(None, answer(obj(a=S, b=S))), Contract(None, answer(obj(a=S)))) == ()
