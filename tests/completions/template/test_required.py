from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions import template
from completions.chat import Message, Role
from completions.schema import variables_schema
from completions.template.paths import text_of
from completions.version import Version, validate
from kit.errors import Invalid
from kit.json import Json

CASES: dict[str, set[str]] = {
    "{{ a }}": {"a"},
    "{{ a.b }} {{ c['d'] }} {{ e[f] }}": {"a.b", "c.d", "e", "f"},
    "{{ a.b.c }} {{ a.b }} {{ d.e | default('x') }} {{ f.g is defined }}": {"a.b.c", "a.b"},
    "{{ a[0].b }} {{ c[-1] }} {{ d[e].f }} {{ g.h[i] }} {{ j.k[1:2] }}": {"a", "c", "d", "e", "g.h", "i", "j.k"},
    "{% if a.b %}{{ c.d }}{% endif %}{% for x in e.f %}{{ x.y }}{{ g.h }}{% endfor %}": {"a.b", "e.f"},
    "{% set x = a.b %}{{ x.c }} {{ (a or b.c).d }} {{ (e if f.g else h).i }}": {"a", "f.g"},
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
    assert {text_of(path) for path in template.uses_of(text, field="t")[1]} == CASES[text]


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
        "{{ b.c.k }}",
        "{{ b['n'][xs[0]] }}",
        "{{ b.n.x.z ~ b.n['x'] }}",
        "{% if b.n.x %}{{ b.m }}{% endif %}",
        "{{ b.n.y or b.m }}",
        "{{ b.m | default(b.c.j) }}",
        "{% for x in b.l %}{{ x.y }}{% endfor %}",
        "{% set b = b.n %}",
        "{{ (b or a).n.x.z }}",
        "{% set h %}{{ b.n.y }}{% endset %}",
    ]
)
VALUES: dict[str, Any] = {
    "a": "1",
    "b": {"c": {"k": 1}, "l": [{"y": 1}], "n": {"x": {"z": 1}, "y": 2}},
    "c": "c",
    "d": "d",
    "e": "",
    "f": "f",
    "g": "g",
    "xs": ["x"],
}


@given(st.lists(PIECES, max_size=6).map(" ".join))
def test_without_a_required_path_every_render_fails_and_names_it(text: str) -> None:
    for path in template.uses_of(text, field="t")[1]:
        # The place itself, and each above it.
        for length in range(1, len(path) + 1):
            given = copy.deepcopy(VALUES)
            within: Any = given
            for step in path[: length - 1]:
                within = within[step] if isinstance(within, dict) and step in within else {}
            within.pop(path[length - 1], None)

            with pytest.raises(Invalid) as failure:
                template.compile(text).render(given)

            assert failure.value.reason == "MISSING_VARIABLES"
            named = f"variables.{text_of(path[:length])}"
            assert any(f"{each.field}.".startswith((f"{named}.", f"{named}[")) for each in failure.value.violations)


def test_what_a_version_was_found_to_use_makes_the_same_schema_without_reading_it_again() -> None:
    texts = [
        "{{ user.name }}{% for t in trips %}{{ t.city }}{% endfor %}",
        "no template",
        "{{ days | d(3) }}{{ a[0].b }}",
    ]
    messages = tuple(Message(Role.USER, text) for text in texts)
    declared: dict[str, Json] = {"type": "object", "properties": {"days": {"type": "integer"}}}

    uses = validate(Version("openai", "gpt-4o", messages))

    assert len(uses) == 3
    assert variables_schema(messages, declared, uses) == variables_schema(messages, declared)
    assert variables_schema([Message(Role.USER, "{{ not parsed")], declared, uses) is not None
