"""Templates that only put variables into a text are filled without their program: it must not show."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from completions.template import Template, runtime
from completions.template.runtime import Budget
from kit.errors import Invalid

PIECES = st.sampled_from(["text ", "é", "\r\n", "{{ a }}", "{{ b }}", "{{a}}{{ a}}", "{# note #}", "{{- b -}}", " \n"])
OTHERS = st.sampled_from(["{{ a.x }}", "{{ a | upper }}", "{% if a %}y{% endif %}", "{{ 1 }}", "{{ true }}"])
VALUES = st.one_of(st.text(max_size=5), st.integers(), st.none(), st.just({"x": "y"}), st.just(["z"]))


def outcome(template: Template, variables: dict[str, Any]) -> object:
    try:
        return template.render(variables)
    except Invalid as refusal:
        return refusal.reason, refusal.message, refusal.violations


def both(text: str, variables: dict[str, Any]) -> tuple[object, object]:
    filled, run = Template(text, "t"), Template(text, "t")
    run._blanks = None
    return outcome(filled, variables), outcome(run, variables)


@given(st.lists(st.one_of(PIECES, OTHERS), max_size=6).map("".join), st.dictionaries(st.sampled_from("abc"), VALUES))
def test_it_makes_no_difference(text: str, variables: dict[str, Any]) -> None:
    filled, run = both(text, variables)

    assert filled == run


@pytest.mark.parametrize("text", ["{{ a }}", "x{{ a }}é{{ b }}\r\n", "{# n #}{{ a }}"])
def test_it_is_known_which_templates_do_no_more(text: str) -> None:
    assert Template(text, "t")._blanks is not None


@pytest.mark.parametrize("text", ["{{ a.x }}", "{{ a or b }}", "{{ a }}{% set b = 1 %}", "{{ 'a' }}"])
def test_and_which_do(text: str) -> None:
    assert Template(text, "t")._blanks is None


def test_what_it_writes_is_counted_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "MAX_TEXT", 8)
    template, budget = Template("{{ a }}", "t"), Budget()

    assert template.render_within(budget, {"a": "éé"}) == "éé"
    assert budget.output == 4
    with pytest.raises(Invalid) as refusal:
        template.render_within(budget, {"a": "ééx"})
    assert refusal.value.reason == "TEMPLATE_OUTPUT_LIMIT"
