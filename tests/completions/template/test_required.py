from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions import template
from kit.errors import Invalid

CASES = {
    "{{ a }}": {"a"},
    "{{ a.b }} {{ c['d'] }} {{ e[f] }}": {"a", "c", "e", "f"},
    "{{ a | upper }} {{ b | default('x') }} {{ c | d(1) }}": {"a"},
    "{% if a %}{{ b }}{% elif c %}{{ d }}{% endif %}": {"a"},
    "{% if a is defined %}{{ a }}{% endif %}": set(),
    "{% for x in xs %}{{ x }}{{ y }}{{ loop.index }}{% endfor %}": {"xs"},
    "{{ a and b }} {{ c or d }} {{ e if f else g }}": {"a", "c", "f"},
    "{% set x = a %}{{ x }}": set(),
    "{{ x }}{% set x = 1 %}{{ x }}": {"x"},
    "{% set x %}{{ a }}{% endset %}{{ x }}": {"a"},
    "{% if a %}{% set x = 1 %}{% endif %}{{ x }}": {"a"},
    "{{ a + 1 }} {{ -b }} {{ not c }} {{ d < e }} {{ f ~ g }}": {"a", "b", "c", "d", "e", "f", "g"},
    "plain": set(),
    "{# {{ a }} #}": set(),
}


@pytest.mark.parametrize("text", CASES)
def test_what_is_used_wherever_the_values_lead_is_required(text: str) -> None:
    assert set(template.uses_of(text, field="t")[1]) == CASES[text]


PIECES = st.sampled_from(
    [
        "{{ a }}",
        "{{ b.c }}",
        "{{ c | upper }}",
        "{{ d | default('x') }}",
        "{% if a %}{{ b }}{% endif %}",
        "{% if e is defined %}{{ e }}{% endif %}",
        "{% for x in xs %}{{ x }}{{ c }}{% endfor %}",
        "{% set a = 1 %}",
        "{% set f %}{{ g }}{% endset %}",
        "{{ f or e }}",
        "{{ (a, b) | first }}",
        "{{ g ~ '!' if e else d }}",
        "{% for x, y in b.c | dictsort %}{{ y }}{% endfor %}",
    ]
)
VALUES: dict[str, Any] = {"a": "1", "b": {"c": {"k": 1}}, "c": "c", "d": "d", "e": "", "f": "f", "g": "g", "xs": ["x"]}


@given(st.lists(PIECES, max_size=6).map(" ".join))
def test_without_a_required_variable_every_render_fails_and_names_it(text: str) -> None:
    for name in template.uses_of(text, field="t")[1]:
        given = {other: value for other, value in VALUES.items() if other != name}
        with pytest.raises(Invalid) as failure:
            template.compile(text).render(given)
        assert failure.value.reason == "MISSING_VARIABLES"
        assert any(name in each.field for each in failure.value.violations)
