import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.template import compile, is_templated, literal

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(TEXTS)
def test_a_literal_renders_to_its_text(text: str) -> None:
    assert compile(literal(text)).render({}) == text


@given(
    st.lists(
        st.sampled_from(
            ["{", "{{", "}}", "{%", "%}", "{#", "#}", "raw", "endraw", "-", " ", "\r", "\n", "\\", "'", "a"]
        )
    )
)
def test_a_literal_of_template_like_text_renders_to_its_text(pieces: list[str]) -> None:
    text = "".join(pieces)

    assert compile(literal(text)).render({}) == text


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
