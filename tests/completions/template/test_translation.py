import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.template import check, compile, is_templated
from kit.errors import Invalid
from kit.json import Json


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
    assert (re.search(rf"line {line}(, column [1-9]\d*)?: ", refusal.value.message) is not None) is (line > 0)
    with pytest.raises(Invalid):
        compile(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("Dear {{ name }},\n  {{ f() }}", "line 2, column 6"),
        ("{{ x | upper | nope }}", "line 1, column 16"),
        ("{{ x }}\r\n{%- if x -%}\r\n   {{ y\n | nope }}{% endif %}", "line 4, column 4"),
        ("Ä {{ x }} {% include 'x' %}", "line 1, column 14"),
        ("{{ x is callable }}", "line 1, column 6"),
        ("{{ x | }}", "line 1, column 8"),
        ("{{ (x }}", "line 1, column 7"),
        ("a {# never closed", "line 1, column 6"),
        ("{% raw %}{{ x }}\n{% endraw %}{{ ? }}", "line 2, column 16"),
        ("{% set x = 1 %}\n{% for x in y recursive %}{% endfor %}", "line 2, column 4"),
        ("{{ 'a\nb' ~ '\\d' }}", "line 2, column 6"),
        ("{{ '\\ud800' }}", "line 1, column 4"),
    ],
)
def test_a_refusal_says_in_which_line_and_column(text: str, place: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check(text, field="t")

    assert refusal.value.message.startswith(f"t {place}: ")


@given(st.lists(st.sampled_from(["x", "\n", "\r\n", "{{ y }}", "{#\n#}", "{%- if z -%} ", "{% endif %}", "é"])))
def test_the_place_is_that_of_what_is_wrong(before: list[str]) -> None:
    text = "".join(before)
    with pytest.raises(Invalid) as refusal:
        check(text + "{{ ? }}", field="t")

    if "unexpected char '?'" in refusal.value.message:
        lines = (text + "{{ ").replace("\r\n", "\n").split("\n")
        assert refusal.value.message.startswith(f"t line {len(lines)}, column {len(lines[-1]) + 1}: ")


@pytest.mark.parametrize(
    ("text", "reason", "place"),
    [
        ("{{ 'x' * 100000000 }}", "TEMPLATE_FAILED", "line 1, column 4"),
        ("a\n {{ 10 ** 10 ** 10 }}", "TEMPLATE_WORK_LIMIT", "line 2, column"),
        ("{{ a }}{{ b ~ (1 / 0) }}", "TEMPLATE_FAILED", "line 1, column 16"),
        ("{{ ''.a }}", "TEMPLATE_FAILED", "line 1, column 6"),
        ("{% set x = 1 // 0 %}", "TEMPLATE_FAILED", "line 1, column 12"),
        ("{% set x %}{{ [] | first }}{% endset %}", "TEMPLATE_FAILED", "line 1, column"),
        ("{% for x in 7 %}{% endfor %}", "TEMPLATE_FAILED", "line 1, column 4"),
        ("{% if 'a' > 1 %}{% endif %}", "TEMPLATE_FAILED", "line 1, column"),
        ("{{ a | default(-'x') }}", "TEMPLATE_FAILED", "line 1, column 16"),
        ("{{ 'abcdefgh' | replace('', 'x' | indent(1000)) }}", "TEMPLATE_FAILED", "line 1, column"),
    ],
)
def test_constants_that_make_every_render_fail_are_refused_when_written(text: str, reason: str, place: str) -> None:
    with pytest.raises(Invalid) as refusal:
        check(text, field="t")

    assert refusal.value.reason == reason
    assert refusal.value.message.startswith(f"t {place}")


@pytest.mark.parametrize(
    "text",
    [
        "{% if a %}{{ 1 / 0 }}{% endif %}",
        "{% for x in a %}{{ 1 / 0 }}{% endfor %}",
        "{{ a and 1 / 0 }}{{ 1 / 0 if a }}{{ 1 if a else 1 / 0 }}{{ a < 1 < 1 / 0 }}",
        "{{ true or 1 / 0 }}",
        "{{ [1, 2] | join(', ') }}{{ {'a': 1}.a }}{{ 'abc'[1:] | upper }}{{ 2 ** 10 }}",
        "{% set x = ''.a %}{{ x is defined }}",
        "{{ a * 10 }}{{ a / 0 }}",
    ],
)
def test_what_some_variables_make_right_is_not_refused(text: str) -> None:
    check(text, field="t")


CONSTANTS = st.sampled_from(
    ["1", "0", "'ab'", "[1]", "{'k': 2}", "(x)", "x.y", "3 ** 90", "[1] | first", "'a'.b", "[] | max", "x | default(1)"]
)


@given(st.lists(CONSTANTS, min_size=2, max_size=4), st.lists(st.sampled_from(["~", "*", "/", "+", "or", "and", "<"])))
def test_what_is_refused_for_its_constants_fails_with_any_variables(values: list[str], signs: list[str]) -> None:
    text = "{{ " + "".join(f"{value} {sign} " for value, sign in zip(values, signs, strict=False)) + values[-1] + " }}"
    try:
        check(text, field="t")
    except Invalid:
        anything: list[Json] = [1, "a", [1], {"y": 1}, {"y": "a"}, None, True]
        for x in anything:
            with pytest.raises(Invalid):
                compile(text).render({"x": x})


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
