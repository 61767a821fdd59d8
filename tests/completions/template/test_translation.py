import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.template import check, compile, is_templated
from kit.errors import Invalid


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
