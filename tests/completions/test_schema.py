import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.chat import ImagePart, Message, Role, TextPart
from completions.contract import Contract, InputCheck
from completions.schema import variables_schema
from completions.template import CompiledMessages
from kit.errors import Invalid
from kit.json import Json

ANY: dict[str, Json] = {}


def of(text: str, declared: dict[str, Json] | None = None) -> dict[str, Json] | None:
    """What is read; what is required has tests of its own."""
    schema: dict[str, Json] | None = unrequired(variables_schema([Message(Role.USER, text)], unrequired(declared)))
    return schema


def unrequired(schema: Any) -> Any:
    """Without `required`, anywhere."""
    if isinstance(schema, list):
        return [unrequired(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: unrequired(part) for name, part in schema.items() if name != "required"}


def properties_of(text: str) -> Json:
    schema = of(text)
    assert schema is not None
    assert list(schema) == ["type", "properties"]
    return schema["properties"]


def an_object(**properties: Json) -> dict[str, Json]:
    return {"type": "object", "properties": properties}


def an_array(items: Json) -> dict[str, Json]:
    return {"type": "array", "items": items}


@pytest.mark.parametrize(
    ("text", "properties"),
    [
        ("{{ b }} {{ a }} {{ b }}", {"a": {}, "b": {}}),
        ("{{ user.name.first }}", {"user": an_object(name=an_object(first={}))}),
        ("{{ d['k'] }}", {"d": an_object(k={})}),
        ("{{ d['a b'].c }}", {"d": an_object(**{"a b": an_object(c={})})}),
        ("{{ xs[0] }}{{ xs[-1] }}{{ xs.2 }}", {"xs": an_array({})}),
        ("{{ d[k] }}", {"d": {}, "k": {}}),
        ("{{ text[:100] }}", {"text": {}}),
        ("{% for u in users %}{{ u.name }}{% endfor %}", {"users": an_array(an_object(name={}))}),
        (
            "{% for u in a.b %}{% for v in u %}{{ v.c }}{% endfor %}{% endfor %}",
            {"a": an_object(b=an_array(an_array(an_object(c={}))))},
        ),
        (
            "{% for u in users if u.ok %}x{% else %}{{ none_left }}{% endfor %}",
            {"none_left": {}, "users": an_array(an_object(ok={}))},
        ),
        ("{% for a, b in pairs %}{{ b.x }}{% endfor %}", {"pairs": an_array(an_array(an_object(x={})))}),
        ("{% for k, v in d|items %}{{ k }}{{ v.x }}{% endfor %}", {"d": an_object()}),
        ("{% for k, v in d|dictsort %}{{ k }}{% endfor %}{{ d.x }}", {"d": an_object(x={})}),
        (
            "{% for u in us|selectattr('ok')|sort(attribute='age') %}{{ u.n }}{% endfor %}",
            {"us": an_array(an_object(age={}, n={}, ok={}))},
        ),
        ("{{ us|map(attribute='a.b')|join(sep) }}", {"sep": {}, "us": an_array(an_object(a=an_object(b={})))}),
        ("{{ us|join(', ', 'name') }}", {"us": an_array(an_object(name={}))}),
        ("{{ (us|first).name }}", {"us": an_array(an_object(name={}))}),
        (
            "{% for u in a or b %}{{ u.x }}{% endfor %}",
            {"a": an_array(an_object(x={})), "b": an_array(an_object(x={}))},
        ),
        ("{% for x in [a, b] %}{{ x.y }}{% endfor %}", {"a": an_object(y={}), "b": an_object(y={})}),
        ("{{ (a if b else c).d }}", {"a": an_object(d={}), "b": {}, "c": an_object(d={})}),
        ("{{ (a|default(b)).c }}", {"a": an_object(c={}), "b": an_object(c={})}),
        ("{{ a is defined }}{{ b|default('x') }}", {"a": {}, "b": {}}),
        (
            "{{ a ~ b + c < d and e in f }}{{ -g }}{{ {'k': h}.k }}{{ i is divisibleby(j) }}",
            {name: {} for name in "abcdefghij"},
        ),
        # Easily got wrong.
        ("{% set x = y %}{{ x }}", {"y": {}}),
        ("{% set x = y.z %}{{ x.name }}", {"y": an_object(z=an_object(name={}))}),
        ("{% for u in us %}{{ loop.index }}{% endfor %}", {"us": an_array({})}),
        ("{% for u in us %}{{ loop.previtem.name }}{% endfor %}", {"us": an_array(an_object(name={}))}),
        (
            "{{ users[0].name }}{{ users.total }}",
            {"users": {"anyOf": [an_array(an_object(name={})), an_object(total={})]}},
        ),
        # `set` and scopes.
        ("{% if a %}{% set x = 1 %}{% else %}{% set x = b %}{% endif %}{{ x.c }}", {"a": {}, "b": an_object(c={})}),
        ("{% if a %}{% set x = 1 %}{% endif %}{{ x.c }}", {"a": {}, "x": an_object(c={})}),
        ("{{ x }}{% set x = 1 %}{{ x }}", {"x": {}}),
        ("{% for i in xs %}{% set y = i %}{% endfor %}{{ y }}", {"xs": an_array({}), "y": {}}),
        ("{% set x %}{{ a }}{% set b = 1 %}{% endset %}{{ x }}{{ b }}", {"a": {}, "b": {}}),
        ("{% set a, b = pair %}{{ b.c }}", {"pair": an_array(an_object(c={}))}),
        ("{{ loop.index }}", {"loop": an_object(index={})}),
    ],
)
def test_the_schema_says_what_the_template_reads(text: str, properties: Json) -> None:
    assert properties_of(text) == properties


@pytest.mark.parametrize(
    "text", ["plain", "{# {{ a }} #}", "{% raw %}{{ a }}{% endraw %}", "{{ 1 + 1 }}{{ 'x' }}", "{ {a} }"]
)
def test_a_template_without_variables_has_no_schema(text: str) -> None:
    assert of(text) is None
    assert of(text, {}) is None
    assert of(text, {"type": "object", "properties": {}}) is None


def test_all_messages_parts_and_urls_are_read_into_one_sorted_schema() -> None:
    messages = [
        Message(Role.SYSTEM, "{{ z.b }}"),
        Message(Role.USER, parts=(TextPart("{{ a }}"), ImagePart("https://example.org/{{ z.a }}.png"))),
    ]

    schema = variables_schema(messages, None)

    assert schema == {
        **an_object(a={}, z={**an_object(a={}, b={}), "required": ["a", "b"]}),
        "required": ["a", "z"],
    }
    properties: Any = schema["properties"]
    assert list(properties) == ["a", "z"]
    assert list(properties["z"]["properties"]) == ["a", "b"]


def test_declared_types_fill_the_leaves() -> None:
    declared = an_object(
        user=an_object(age={"type": "integer", "minimum": 0}),
        tags=an_array({"type": "string"}),
        note={"type": "string"},
    )

    assert of("{{ user.age }} {{ user.name }} {% for t in tags %}{{ t }}{% endfor %}", declared) == an_object(
        note={"type": "string"},
        tags=an_array({"type": "string"}),
        user=an_object(age={"type": "integer", "minimum": 0}, name={}),
    )


def test_a_declared_leaf_is_kept_whole() -> None:
    user: Json = {"type": "object", "minProperties": 1, "properties": {"id": {"type": "string"}}, "title": "User"}

    assert of("{{ user|tojson }}", an_object(user=user)) == an_object(user=user)


def test_the_declaration_wins_over_what_a_template_seems_to_say() -> None:
    declared = an_object(d={"type": "object", "additionalProperties": {"type": "string"}}, s={"type": "string"})

    assert of("{% for k in d %}{{ d[k] }}{{ d.known }}{% endfor %}{{ s.x }}", declared) == an_object(
        d={"type": "object", "additionalProperties": {"type": "string"}, "properties": {"known": {"type": "string"}}},
        s={"type": "string"},
    )


def test_declared_alternatives_and_nulls_stay() -> None:
    declared = an_object(
        a={"anyOf": [an_object(x={"type": "string"}), {"type": "null"}]},
        b={"type": ["array", "null"]},
        c={"items": True},
    )

    assert of("{{ a.x }}{{ a.y }}{{ b[0].z }}{{ c[0].w }}", declared) == an_object(
        a={"anyOf": [an_object(x={"type": "string"}, y={}), {"type": "null"}]},
        b={"type": ["array", "null"], "items": an_object(z={})},
        c={"type": "array", "items": an_object(w={})},
    )


def test_references_are_followed_where_templates_read_deeper() -> None:
    definitions: Json = {"Node": an_object(name={"type": "string"}, next={"$ref": "#/$defs/Node"})}
    declared: dict[str, Json] = {"$defs": definitions, **an_object(node={"$ref": "#/$defs/Node", "title": "N"})}

    assert of("{{ node.next.name }}", declared) == {
        "$defs": definitions,
        **an_object(
            node={
                **an_object(
                    name={"type": "string"}, next=an_object(name={"type": "string"}, next={"$ref": "#/$defs/Node"})
                ),
                "title": "N",
            }
        ),
    }
    assert of("{{ node }}", declared) == declared


def test_a_root_reference_is_followed() -> None:
    declared: dict[str, Json] = {"$ref": "#/$defs/a~1b", "$defs": {"a/b": an_object(x={"type": "string"})}}

    schema = of("{{ x }}{{ y }}", declared)

    assert schema is not None
    assert schema["properties"] == {"x": {"type": "string"}, "y": {}}


@pytest.mark.parametrize("reference", ["https://example.org/schema.json", "#/$defs/none", "#anchor", 7])
def test_a_reference_that_leads_nowhere_is_left_as_it_is(reference: Json) -> None:
    declared = an_object(a={"$ref": reference})

    assert of("{{ a.b }}", declared) == declared


DOUBLING: dict[str, Json] = {
    f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]} for i in range(40)
}
CHAIN: dict[str, Json] = {"$defs": {**DOUBLING, "d40": an_object()}, **an_object(a={"$ref": "#/$defs/d0"})}


@pytest.mark.parametrize(
    "declared",
    [
        {"$ref": "#"},
        {"$ref": None},
        {"$ref": "https://example.org/schema.json"},
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, **an_object(a={"$ref": "#/$defs/a"})},
        {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, **an_object(a={"$ref": "#/$defs/a"})},
        CHAIN,
        {"type": "string"},
        {"type": "array"},
        {"properties": []},
        an_object(a={"properties": 1}),
    ],
)
def test_a_declaration_that_is_no_schema_is_refused(declared: dict[str, Json]) -> None:
    with pytest.raises(Invalid) as refusal:
        of("{{ a.b }}", declared)

    assert refusal.value.reason == "SCHEMA_MALFORMED"
    assert refusal.value.violations[0].field == "variables_schema"


def test_alternatives_at_the_root_stay_beside_what_is_read() -> None:
    declared: dict[str, Json] = {"anyOf": [an_object(x={"type": "string"}), {"type": "null"}]}

    assert of("{{ x }}", declared) == {**an_object(x={}), **declared}


def test_what_no_render_succeeds_without_is_required_in_any_message() -> None:
    messages = [
        Message(Role.SYSTEM, "{{ tone | d('warm') }} {{ b }}"),
        Message(Role.USER, "{% if a %}{{ c }}{% endif %}"),
    ]

    schema = variables_schema(messages, None)

    assert schema is not None
    assert schema["required"] == ["a", "b"]


def test_what_is_declared_as_required_stays_so() -> None:
    declared: dict[str, Json] = {"type": "object", "properties": {}, "required": ["z"]}

    schema = variables_schema([Message(Role.USER, "{{ a }}{{ z }}")], declared)

    assert schema is not None
    assert schema["required"] == ["z", "a"]


def test_members_without_which_no_render_succeeds_are_required_where_they_stand() -> None:
    text = "{{ a.b }}{{ a.c | d('') }}{{ a['d'].e }}{% for x in f.g %}{{ x.y }}{% endfor %}{{ h.i is defined }}"

    schema: Any = variables_schema([Message(Role.USER, text)], None)

    assert schema["required"] == ["a", "f"]
    properties = schema["properties"]
    assert properties["a"]["required"] == ["b", "d"]
    assert properties["a"]["properties"]["d"]["required"] == ["e"]
    assert properties["f"]["required"] == ["g"]
    assert "required" not in properties["f"]["properties"]["g"]["items"]
    assert "required" not in properties["h"]


def test_required_members_join_those_of_the_declaration_in_its_objects_only() -> None:
    an_a: Json = {"type": "object", "properties": {"z": {}}, "required": ["z"]}
    declared = an_object(a={"anyOf": [an_a, {"type": "null"}]}, b={"type": "string"}, c={"$ref": "#/$defs/c"})
    declared["$defs"] = {"c": an_object(d={"type": "integer"})}

    schema: Any = variables_schema([Message(Role.USER, "{{ a.y }}{{ b.x }}{{ c.d }}")], declared)

    assert schema["properties"]["a"]["anyOf"] == [
        {"type": "object", "properties": {"y": {}, "z": {}}, "required": ["z", "y"]},
        {"type": "null"},
    ]
    assert schema["properties"]["b"] == {"type": "string"}
    assert schema["properties"]["c"] == {**an_object(d={"type": "integer"}), "required": ["d"]}


@given(st.lists(st.sampled_from(["a", "b", "a.x", "a['y']", "b.x.z", "c.d"]), min_size=1))
def test_data_that_keeps_to_the_schema_renders_and_other_data_does_not(paths: list[str]) -> None:
    text = "".join(f"{{{{ {path} }}}}" for path in paths)
    messages = [Message(Role.USER, text)]
    schema = variables_schema(messages, None)
    whole: Any = _example(schema)
    contract = Contract(schema)

    InputCheck().check(contract, whole)
    for path in {path.replace("['y']", ".y") for path in paths}:
        cut = copy.deepcopy(whole)
        *above, last = path.split(".")
        within = cut
        for step in above:
            within = within[step]
        del within[last]
        with pytest.raises(Invalid):
            InputCheck().check(contract, cut)
        with pytest.raises(Invalid):
            CompiledMessages(messages).render(cut)


def test_nothing_is_required_where_everything_can_be_left_out() -> None:
    schema = variables_schema([Message(Role.USER, "{{ a | d('') }}")], None)

    assert schema == {"type": "object", "properties": {"a": {}}}


def test_a_template_that_is_not_allowed_has_no_schema_but_a_reason() -> None:
    with pytest.raises(Invalid) as refusal:
        of("{{ d.items() }}")

    assert refusal.value.reason == "TEMPLATE_NOT_ALLOWED"
    assert refusal.value.violations[0].field == "messages[0].content"


JUNK: st.SearchStrategy[Json] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 3)
    | st.sampled_from(["object", "array", "#", "#/$defs/a", "#/properties/a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "properties", "items", "$ref", "$defs", "anyOf", "oneOf", "a", "b", "additionalProperties"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["type", "properties", "$ref", "$defs", "anyOf", "a"]), JUNK, max_size=4))
def test_a_schema_declared_again_changes_nothing(declared: dict[str, Json]) -> None:
    text = "{{ a.b.c }}{{ a[0] }}{% for x in b %}{{ x.a }}{% endfor %}{{ d }}"
    try:
        schema = of(text, declared)
    except Invalid:
        return

    assert of(text, schema) == schema


@given(st.dictionaries(st.sampled_from(["type", "properties", "$ref", "$defs", "anyOf", "a"]), JUNK, max_size=4))
def test_no_declaration_makes_it_crash(declared: dict[str, Json]) -> None:
    try:
        of("{{ a.b.c }}{{ a[0] }}{% for x in b %}{{ x.a }}{% endfor %}", declared)
    except Invalid as refusal:
        assert refusal.reason == "SCHEMA_MALFORMED"  # noqa: PT017


@given(st.lists(st.sampled_from(["a", "b", "a.x", "a['y']", "b.x.z", "c.d"]), min_size=1))
def test_data_of_the_derived_shape_satisfies_the_template(paths: list[str]) -> None:
    text = "".join(f"{{{{ {path} }}}}" for path in paths)
    schema = of(text)
    assert schema is not None

    CompiledMessages([Message(Role.USER, text)]).render({name: _example(part) for name, part in _properties(schema)})


def _properties(schema: Any) -> list[tuple[str, Any]]:
    return list(schema["properties"].items())


def _example(schema: Any) -> Json:
    return {name: _example(part) for name, part in _properties(schema)} if "properties" in schema else "x"
