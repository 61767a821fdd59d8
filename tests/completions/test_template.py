import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, StrictUndefined

from completions.chat import ImagePart, Message, Role, TextPart, ToolCall
from completions.template import CompiledMessages, check, compile, is_templated, literal
from kit.errors import Invalid
from kit.json import Json

STOCK = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # nothing is escaped, as promised
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def render(text: str, /, **variables: Json) -> str:
    return compile(text).render(variables)


def refusal_of(text: str, /, **variables: Json) -> Invalid:
    with pytest.raises(Invalid) as refusal:
        render(text, **variables)
    return refusal.value


def missing_in(text: str, /, **variables: Json) -> list[str]:
    refusal = refusal_of(text, **variables)
    assert refusal.reason == "MISSING_VARIABLES"
    assert [violation.field for violation in refusal.violations] == [
        f"variables.{name}" for name in refusal.metadata["variables"].split(", ")
    ]
    return [violation.field.removeprefix("variables.") for violation in refusal.violations]


# What a template yields.


def test_nothing_is_escaped() -> None:
    assert render("{{ name }}!", name="O'Brien & <b>\"\\{{ x }}") == "O'Brien & <b>\"\\{{ x }}!"


@given(TEXTS, TEXTS)
def test_any_text_is_rendered_verbatim(value: str, other: str) -> None:
    assert render("[{{ a }}|{{ b.c }}]", a=value, b={"c": other}) == f"[{value}|{other}]"


@given(TEXTS)
def test_a_literal_renders_to_its_text(text: str) -> None:
    assert render(literal(text)) == text


@given(
    st.lists(
        st.sampled_from(
            ["{", "{{", "}}", "{%", "%}", "{#", "#}", "raw", "endraw", "-", " ", "\r", "\n", "\\", "'", "a"]
        )
    )
)
def test_a_literal_of_template_like_text_renders_to_its_text(pieces: list[str]) -> None:
    text = "".join(pieces)

    assert render(literal(text)) == text


DATA: dict[str, Json] = {
    "e": "",
    "s": "Hello wörld, it's fine",
    "n": 7,
    "f": 2.5,
    "yes": True,
    "nil": None,
    "xs": [3, 1, 2],
    "words": ["b", "A", "c", "a"],
    "d": {"b": 2, "a": 1},
    "users": [{"name": "Ann", "age": 3, "ok": True}, {"name": "bob", "age": 1, "ok": False}],
    "text": "one\n\ntwo\nthree",
    "deep": {"a": {"b": [{"c": "found"}]}},
}


@pytest.mark.parametrize(
    "text",
    [
        "{{ s }} {{ n }} {{ f }} {{ yes }} {{ nil }} {{ xs }} {{ d }}",
        "{{ deep.a.b[0].c }} {{ deep['a']['b'][-1]['c'] }} {{ xs.1 }} {{ s[1:4] }} {{ xs[::-1] }}",
        "{% if yes and not nil or e %}a{% elif n %}b{% else %}c{% endif %}{{ 'x' if e else 'y' }}{{ 'z' if e }}",
        "{% for x in xs %}{{ loop.index }}/{{ loop.length }}{{ loop.first }}{{ loop.last }}:{{ x }};{% endfor %}",
        "{% for x in xs if x > 1 %}{{ loop.revindex }}{{ x }}{% else %}none{% endfor %}",
        "{% for x in [] %}{{ x }}{% else %}none{% endfor %}",
        "{% for k in d %}{{ k }}={{ d[k] }},{% endfor %}{% for c in s %}{{ c }}.{% endfor %}",
        "{% for k, v in d|items %}{{ k }}={{ v }},{% endfor %}{% for k, v in d|dictsort %}{{ k }}{{ v }}{% endfor %}",
        "{% for a in users %}{% for b in users %}{{ a.name }}{{ b.name }}{{ loop.index }}{% endfor %}{% endfor %}",
        "{% for x in xs %}{{ loop.previtem|default('-') }}{{ loop.nextitem is defined }}{% endfor %}",
        "{% set a = 1 %}{% set b, c = [2, 3] %}{% for x in xs %}{% set a = x %}{{ a }}{% endfor %}{{ a }}{{ b ~ c }}",
        "{% set t %}<{{ s }}>{% for x in xs %}{{ x }},{% endfor %}{% endset %}{{ t|upper }}{{ t }}",
        "{% if yes %}{% set q = 1 %}{% else %}{% set q = 2 %}{% endif %}{{ q }}",
        "{{ 1 + 2 * 3 - 4 / 2 }} {{ 7 // 2 }} {{ 7 % 4 }} {{ 2 ** 10 }} {{ -n }} {{ +f }} {{ xs + [9] }} {{ 'a' + s }}",
        "{{ s ~ n ~ nil ~ xs }} {{ 1 < 2 < 3 }} {{ n == 7.0 }} {{ 'a' in words }} {{ 'w' not in s }} {{ 'a' in d }}",
        "{{ [1, 'a', [n]] }} {{ (1, 2) }} {{ {'k': n}['k'] }} {{ {'k': n}.k }} {{ 'b' * 1 if e else 'skipped' }}",
        "{{ gone is defined }} {{ gone is undefined }} {{ gone|default('x') }} {{ e|default('x', true) }} {{ gone|d }}",
        "{{ s|upper }} {{ s|lower }} {{ s|title }} {{ s|capitalize }} {{ s|length }} {{ s|wordcount }} {{ s|reverse }}",
        "{{ '  a '|trim }}|{{ 'xxaxx'|trim('x') }}|{{ s|replace('l', 'L') }}|{{ s|replace('l', '', 1) }}",
        "{{ s|truncate(10) }} {{ s|truncate(9, true) }} {{ s|truncate(9, false, '…', 0) }} {{ s|truncate }}",
        "{{ text|indent }}|{{ text|indent(2, true) }}|{{ text|indent('> ', blank=true) }}|{{ (text ~ '\n')|indent }}",
        "{{ xs|join }} {{ xs|join(', ') }} {{ users|join('; ', 'name') }} {{ users|map(attribute='name')|join(',') }}",
        "{{ words|sort }} {{ words|sort(true, true) }} {{ users|sort(attribute='age')|map(attribute='name')|list }}",
        "{{ words|unique|list }} {{ words|map('upper')|list }} {{ xs|select('odd')|list }} {{ xs|reject('odd')|list }}",
        "{{ users|selectattr('ok')|list }} {{ users|rejectattr('ok')|list }}",
        "{{ users|selectattr('age', 'gt', 2)|list }} {{ users|rejectattr('name', 'in', words)|list }}",
        "{{ users|map(attribute='gone', default='?')|list }} {{ xs|map('default', 1)|list }}",
        "{{ xs|sum }} {{ users|sum(attribute='age') }} {{ xs|min }} {{ words|max }} {{ users|min(attribute='age') }}",
        "{{ xs|first }} {{ xs|last }} {{ s|first }} {{ s|list }} {{ d|list }} {{ d|length }} {{ xs|count }}",
        "{{ '42'|int }} {{ 'x'|int }} {{ '3.9'|int }} {{ 'x'|int(5) }} {{ '2.5'|float }} {{ 'x'|float }} {{ -3|abs }}",
        "{{ 2.567|round }} {{ 2.567|round(2) }} {{ 2.1|round(0, 'ceil') }} {{ 2.19|round(1, 'floor') }} {{ n|string }}",
        "{{ n is odd }} {{ n is even }} {{ n is divisibleby(7) }}",
        "{{ n is number }} {{ yes is number }} {{ n is integer }} {{ yes is integer }}",
        "{{ f is float }} {{ s is string }} {{ d is mapping }} {{ xs is sequence }}",
        "{{ xs is iterable }} {{ nil is none }} {{ n is none }} {{ n is iterable }}",
        "{{ yes is true }} {{ yes is false }} {{ yes is boolean }} {{ 'a' is lower }} {{ 'A' is upper }}",
        "{{ n is in(xs) }} {{ n is not in(xs) }}",
        "{{ n is eq(7) }} {{ n is ne(7) }} {{ n is gt(6) }} {{ n is ge(7) }} {{ n is lt(7) }} {{ n is le(7) }}",
        "{{ n is equalto 7 }} {{ n is not equalto 7 }} {{ s|safe }}",
        "a {%- if yes %} b {%- endif -%} c\n{{- n -}} d {# gone #}{% raw %}{{ kept }}{% endraw %}\n",
    ],
)
def test_the_subset_means_what_it_means_in_jinja(text: str) -> None:
    assert render(text, **DATA) == STOCK.from_string(text).render(DATA)


def test_to_json_writes_plain_json() -> None:
    value: Json = {"b": "<&'é", "a": [1, None, True, 2**60]}

    assert render("{{ x|tojson }}", x=value) == '{"b": "<&\'é", "a": [1, null, true, 1152921504606846976]}'
    assert render("{{ x|tojson(indent=1) }}", x=[1]) == "[\n 1\n]"


def test_members_are_found_by_key_and_never_as_attributes() -> None:
    assert (
        render("{{ d.items }} {{ d['keys'] }} {{ d.__class__ }}", d={"items": 1, "keys": 2, "__class__": 3}) == "1 2 3"
    )
    assert render("{{ x.__class__ is defined }} {{ x.upper is defined }} {{ d.get is defined }}", x="s", d={}) == (
        "False False False"
    )


def test_names_that_jinja_knows_are_ordinary_variables_here() -> None:
    assert (
        render(
            "{{ range }} {{ dict }} {{ namespace.x }} {{ loop.index }}",
            range=1,
            dict=2,
            namespace={"x": 3},
            loop={"index": 4},
        )
        == "1 2 3 4"
    )


def test_variables_are_never_changed() -> None:
    variables: dict[str, Json] = {"xs": [3, 1], "d": {"a": [1]}}

    compile("{% set xs = xs + [1] %}{{ xs|sort }}{{ d.a|reverse }}{% set d = 1 %}").render(variables)

    assert variables == {"xs": [3, 1], "d": {"a": [1]}}


def test_renders_share_nothing() -> None:
    template = compile("{% set y = x %}{{ y }}{% for i in xs %}{{ i }}{% endfor %}")
    results: list[set[str]] = [set() for _ in range(4)]

    def render_often(index: int) -> None:
        for _ in range(200):
            results[index].add(template.render({"x": index, "xs": [index] * 3}))

    threads = [threading.Thread(target=render_often, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results == [{f"{index}" * 4} for index in range(4)]


# What is missing.


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
    render(text, xs=[])


def test_a_missing_key_of_a_table_in_the_template_is_a_failure_and_no_missing_variable() -> None:
    refusal = refusal_of("{{ {'fr': 'French'}[code] }}", code="de")

    assert refusal.reason == "TEMPLATE_FAILED"
    assert "'de'" in refusal.message


# What fails, and where.


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("a\n{{ x | }}", "TEMPLATE_SYNTAX", 2),
        ("{{ x", "TEMPLATE_SYNTAX", 1),
        ("\n\n{% if x %}", "TEMPLATE_SYNTAX", 3),
        ("{# never closed", "TEMPLATE_SYNTAX", 1),
        ("{% raw %} never closed", "TEMPLATE_SYNTAX", 1),
        ("{{ '\\d' }}", "TEMPLATE_SYNTAX", 1),
        ("{{ " + "9" * 5000 + " }}", "TEMPLATE_SYNTAX", 1),
        ("{{ 0x" + "f" * 100_000 + " }}", "TEMPLATE_SYNTAX", 1),
        ("{{ x }}\n{{ f() }}", "TEMPLATE_NOT_ALLOWED", 2),
        ("{{ d.items() }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ range(10) }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x|attr('__class__') }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x|format(1) }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x|center(10) }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x|map('attr', '__class__') }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x|map(y) }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x|map(name=y) }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x|select('callable') }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x|sort(attribute=y) }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x|join(*y) }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x|join(1, 2, 3) }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x|upper(nope=1) }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x is callable }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x is divisibleby }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% include 'x' %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% import 'x' as y %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% from 'x' import y %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% extends 'x' %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% block x %}{% endblock %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% macro x() %}{% endmacro %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% call x() %}{% endcall %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% filter upper %}{% endfilter %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% with x = 1 %}{% endwith %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% autoescape true %}{% endautoescape %}", "TEMPLATE_NOT_ALLOWED", 0),
        ("{% do x %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% for x in y %}{% break %}{% endfor %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% for x in y recursive %}{% endfor %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% for x in y %}{{ loop }}{% endfor %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% for x in y %}{{ loop.cycle }}{% endfor %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% for x in y %}{{ loop.__class__ }}{% endfor %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% for loop in y %}{% endfor %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% set loop = 1 %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% set x.y = 1 %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{% set x | upper %}{% endset %}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ self }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x[1, 2] }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ 1e999 }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ 0xfffffffffffffffff }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ '\\ud800' }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ '\\x00' }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ \ufb01 }}", "TEMPLATE_NOT_ALLOWED", 1),
        ("{{ x }}\0", "TEMPLATE_NOT_ALLOWED", 0),
        ("{{ x }}\ud800", "TEMPLATE_NOT_ALLOWED", 0),
    ],
)
def test_what_is_not_allowed_is_refused_when_written(text: str, reason: str, line: int) -> None:
    with pytest.raises(Invalid) as refusal:
        check(text, field="messages[3].content")

    assert refusal.value.reason == reason
    assert [violation.field for violation in refusal.value.violations] == ["messages[3].content"]
    assert (f"line {line}: " in refusal.value.message) is (line > 0)
    with pytest.raises(Invalid):
        compile(text)


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


def test_a_failure_does_not_repeat_large_values() -> None:
    assert len(refusal_of("{{ {}[x] }}", x="k" * 100_000).message) < 300


@pytest.mark.parametrize("value", ["\ud800", 1 << 70, object(), {1: 2}, {"a": {1, 2}}])
def test_variables_that_are_no_json_are_refused(value: Any) -> None:
    assert refusal_of("{{ x }}", x=value).reason == "VARIABLES_INVALID"


# What is a template.


@pytest.mark.parametrize(
    "text",
    [
        "{{ x }}",
        "a {{",
        "{% if x %}",
        "{%- set x = 1 %}",
        "{# a #}{{ x }}",
        "{% raw %}{% endraw %}{% if",
        "{{{a}}}",
        "{% raw %}x",
        "{# {{ #}{{",
    ],
)
def test_a_text_with_a_tag_is_templated_even_if_it_is_broken(text: str) -> None:
    assert is_templated(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        '{"a": {"b": 1}}',
        "}} %} #}",
        "{ { x } }",
        "100% {sure}",
        "{# {{ x }} #}",
        "{% raw %}{{ x }}{% endraw %}",
        "{%- raw -%}{{ x }}{%- endraw -%} {# c #}",
        "colour: {#fff",
    ],
)
def test_a_text_that_only_looks_like_a_template_is_not(text: str) -> None:
    assert not is_templated(text)


@given(
    st.lists(
        st.sampled_from(["{{", "}}", "{%", "%}", "{#", "#}", " raw ", " endraw ", "x", "{", "}", "if ", "'", "\n"])
    )
)
def test_what_compiles_without_a_tag_is_constant(pieces: list[str]) -> None:
    text = "".join(pieces)
    try:
        template = compile(text)
    except Invalid as refusal:
        assert refusal.reason in {"TEMPLATE_SYNTAX", "TEMPLATE_NOT_ALLOWED"}  # noqa: PT017
    else:
        assert (template.constant is None) == is_templated(text)


# Messages.


def test_contents_texts_and_urls_are_rendered_and_nothing_else() -> None:
    plain = Message(Role.ASSISTANT, "Hi", tool_calls=(ToolCall("{{ a }}", "f", "{}"),))
    messages = CompiledMessages(
        (
            Message(Role.SYSTEM, "{{ a }}", name="{{ a }}"),
            Message(Role.USER, parts=(TextPart("{{ b }}"), TextPart("c"), ImagePart("https://{{ b }}/", "low"))),
            plain,
            Message(Role.USER, "{# note #}{% raw %}{{ a }}{% endraw %}"),
        )
    )

    rendered = messages.render({"a": "{{ b }}", "b": "x"})

    assert rendered == (
        Message(Role.SYSTEM, "{{ b }}", name="{{ a }}"),
        Message(Role.USER, parts=(TextPart("x"), TextPart("c"), ImagePart("https://x/", "low"))),
        plain,
        Message(Role.USER, "{{ a }}"),
    )
    assert rendered[2] is plain


def test_a_template_that_renders_to_nothing_leaves_an_empty_message() -> None:
    assert CompiledMessages([Message(Role.USER, "{{ a }}")]).render({"a": ""}) == (Message(Role.USER),)


def test_messages_without_templates_take_any_variables_and_look_at_none() -> None:
    messages = CompiledMessages([Message(Role.USER, "Hi")])

    assert messages.render({"unused": "\ud800"}) == (Message(Role.USER, "Hi"),)


def test_what_is_missing_in_any_message_is_named_at_once() -> None:
    messages = CompiledMessages([Message(Role.SYSTEM, "{{ a }}"), Message(Role.USER, "{{ b + 1 }}{{ a }}")])

    with pytest.raises(Invalid) as refusal:
        messages.render({})

    assert [violation.field for violation in refusal.value.violations] == ["variables.a", "variables.b"]


def test_a_failure_says_in_which_message() -> None:
    messages = CompiledMessages(
        [Message(Role.SYSTEM, "{{ a }}"), Message(Role.USER, parts=(TextPart("\n{{ 1 / a }}"),))]
    )

    with pytest.raises(Invalid) as refusal:
        messages.render({"a": 0})

    assert refusal.value.violations[0].field == "messages[1].parts[0].text"
    assert "line 2" in refusal.value.message
