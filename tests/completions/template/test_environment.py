import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment, StrictUndefined

from completions.template import compile
from kit.json import Json

STOCK = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # nothing is escaped, as promised
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def render(text: str, /, **variables: Json) -> str:
    return compile(text).render(variables)


def test_nothing_is_escaped() -> None:
    assert render("{{ name }}!", name="O'Brien & <b>\"\\{{ x }}") == "O'Brien & <b>\"\\{{ x }}!"


@given(TEXTS, TEXTS)
def test_any_text_is_rendered_verbatim(value: str, other: str) -> None:
    assert render("[{{ a }}|{{ b.c }}]", a=value, b={"c": other}) == f"[{value}|{other}]"


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
