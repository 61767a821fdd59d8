from typing import Any

import pytest

from completions.template import compile
from kit.errors import Invalid
from kit.json import Json


def refusal_of(text: str, /, **variables: Json) -> Invalid:
    with pytest.raises(Invalid) as refusal:
        compile(text).render(variables)
    return refusal.value


def missing_in(text: str, /, **variables: Json) -> list[str]:
    refusal = refusal_of(text, **variables)
    assert refusal.reason == "MISSING_VARIABLES"
    assert [violation.field for violation in refusal.violations] == [
        f"variables.{name}" for name in refusal.metadata["variables"].split(", ")
    ]
    return [violation.field.removeprefix("variables.") for violation in refusal.violations]


def test_all_missing_variables_are_named_at_once() -> None:
    text = "{{ a }}{{ b.c.d }}{{ e|upper }}{% for x in f %}{% endfor %}{% if g %}{% endif %}"
    text += "{{ h + 1 }}{{ a }}{{ -i }}{{ j ~ k }}"

    assert missing_in(text) == ["a", "b.c.d", "e", "f", "g", "h", "i", "j", "k"]


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("{{ user.name }}", ["user.name"]),
        ("{{ user['first name'] }}", ["user.first name"]),
        ("{{ user.tags[1] }}", ["user.tags[1]"]),
        ("{{ user[key] }}", ["user.nick"]),
        ("{{ user.x.y }}", ["user.x.y"]),
        ("{% set u = user %}{{ u.name }}", ["user.name"]),
        ("{% for u in users %}{{ u.name }}{% endfor %}", ["users[].name"]),
        ("{{ users|map(attribute='a.b')|join }}", ["users[].a.b"]),
        ("{{ users|sort(attribute='age') }}", ["users[].age"]),
        ("{{ users|selectattr('ok')|list }}", ["users[].ok"]),
        ("{{ (users|first).name }}", ["users[].name"]),
        ("{{ nil.x }} {{ text.x }} {{ number.x }}", ["nil.x", "text.x", "number.x"]),
        ("{{ user.__class__ }} {{ text.format }}", ["user.__class__", "text.format"]),
        ("{{ [gone] }}", ["gone"]),
        ("{{ [gone]|tojson }}", ["gone"]),
        ("{{ gone in users }}{{ 1 in gone2 }}", ["gone", "gone2"]),
        ("{{ gone == 1 }}{{ gone2 < 1 }}{{ gone3 == text }}", ["gone", "gone2", "gone3"]),
        ("{{ gone is string }}{{ 1 is eq(gone2) }}", ["gone", "gone2"]),
        ("{{ not gone }}{{ gone2 and 1 }}{{ gone3 or 1 }}{{ 1 if gone4 else 2 }}", ["gone", "gone2", "gone3", "gone4"]),
        (
            "{{ gone[1:2] }}{{ gone2|length }}{{ gone3|int }}{{ text|replace('t', gone4) }}",
            ["gone", "gone2", "gone3", "gone4"],
        ),
        ("{% set a, b = gone %}", ["gone"]),
        ("{% set t %}{{ gone }}{% endset %}", ["gone"]),
        ("{{ gone }}{{ 1 + text }}", ["gone"]),
        ("{{ {gone: 1} }}", ["gone"]),
    ],
)
def test_what_is_missing_is_named_in_full(text: str, missing: list[str]) -> None:
    variables: dict[str, Json] = {
        "user": {"tags": ["a"]},
        "users": [{}],
        "key": "nick",
        "nil": None,
        "text": "t",
        "number": 1,
    }

    assert missing_in(text, **variables) == missing


@pytest.mark.parametrize(
    "text",
    [
        "{{ x is defined }}{{ x.y.z is undefined }}",
        "{{ x|default('a') }}{{ x.y.z|default('b') }}{{ x|d }}",
        "{{ x|default(y)|default('c') }}",
        "{% if false %}{{ x }}{% endif %}{{ 1 or x }}{{ 0 and x }}{{ 'a' if true else x }}",
        "{% for i in [] %}{{ x }}{% endfor %}",
        "{% set y = x %}{{ y is defined }}",
        "{% if x is defined and x.y %}{{ x.y }}{% endif %}",
        "{{ xs|map(attribute='a', default=0)|list }}{{ xs|first|default(1) }}",
    ],
)
def test_what_is_asked_for_or_has_a_default_is_not_missing(text: str) -> None:
    compile(text).render({"xs": []})


def test_a_missing_key_of_a_table_in_the_template_is_a_failure_and_no_missing_variable() -> None:
    refusal = refusal_of("{{ {'fr': 'French'}[code] }}", code="de")

    assert refusal.reason == "TEMPLATE_FAILED"
    assert "'de'" in refusal.message


@pytest.mark.parametrize(
    "text",
    [
        "\n{{ 'a' + 1 }}",
        "\n{{ 'a' * 3 }}",
        "\n{{ [1] * 3 }}",
        "\n{{ '%s' % 1 }}",
        "\n{{ 1 / 0 }}",
        "\n{{ 1 % 0 }}",
        "\n{{ (-8) ** 0.5 }}",
        "\n{{ 1 < 'a' }}",
        "\n{{ 1 in 'a' }}",
        "\n{{ 1 in 2 }}",
        "\n{{ 5[1:] }}",
        "\n{% for x in 5 %}{% endfor %}",
        "\n{% set a, b = [1] %}",
        "\n{{ {[]: 1} }}",
        "\n{{ [[1]]|unique }}",
        "\n{{ [1, 'a']|sort }}",
        "\n{{ 5|length }}",
        "\n{{ 5|join }}",
        "\n{{ 'a'|abs }}",
        "\n{{ 'abc'|indent(65) }}",
        "\n{{ 1|tojson(indent=99) }}",
        "\n{{ 'abc'|truncate(1) }}",
        "\n{{ []|first }}",
        "\n{{ [1]|map('map', 'nope')|list }}",
        "\n{{ {}['a'] }}",
        "\n{{ ''.__class__ }}",
    ],
)
def test_an_operation_on_the_wrong_thing_fails_with_the_line(text: str) -> None:
    refusal = refusal_of(text)

    assert refusal.reason == "TEMPLATE_FAILED"
    assert "line 2: " in refusal.message
    assert refusal.violations[0].field == "template"


@pytest.mark.parametrize(
    ("text", "value", "told"),
    [
        ("{{ x + 1 }}", None, "null is not a number"),
        ("{{ x * 2 }}", "a", "a string is not a number"),
        ("{{ 1 in x }}", 1.5, "a number in a number makes no sense"),
        ("{% for y in x %}{% endfor %}", True, "a boolean cannot be looped over"),
        ("{{ x|abs }}", [1], "an array is not a number"),
        ("{{ x[1:] }}", {}, "an object cannot be sliced"),
        ("{{ x|length }}", 5, "a number has no length"),
        ("{{ x|items }}", "a", "a string has no members"),
    ],
)
def test_a_failure_calls_values_what_json_calls_them(text: str, value: Any, told: str) -> None:
    assert told in refusal_of(text, x=value).message


def test_a_failure_does_not_repeat_large_values() -> None:
    assert len(refusal_of("{{ {}[x] }}", x="k" * 100_000).message) < 300


@pytest.mark.parametrize("value", ["\ud800", 1 << 70, object(), {1: 2}, {"a": {1, 2}}])
def test_variables_that_are_no_json_are_refused(value: Any) -> None:
    assert refusal_of("{{ x }}", x=value).reason == "VARIABLES_INVALID"
