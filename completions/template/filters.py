"""The filters of the template language: Jinja's, as far as they are useful in prompts, deterministic and bounded.

They print and compare as Jinja's do, with these differences: `tojson` writes plain JSON (no HTML escapes, keys in the
order given), `safe` does nothing (nothing is ever escaped), and `map`, `select` and their like take the filter, test or
attribute as a constant string. Not there, on purpose: what escapes HTML, formats by Python's rules, calls, or is
random.
"""

from __future__ import annotations

from jinja2 import pass_context

from completions.template.list_filters import (
    as_list,
    dictsort,
    extreme,
    items,
    join,
    map_each,
    pick,
    reverse,
    selection,
    sort,
    total,
    unique,
)
from completions.template.number_filters import absolute, round_to, to_float, to_int
from completions.template.runtime import Function, Missing, Operand, RenderContext, kind_of
from completions.template.text_filters import indent, replace, text_filter, title, tojson, trim, truncate, wordcount


@pass_context
def default(context: RenderContext, value: Operand, default_value: Operand = "", boolean: bool = False) -> Operand:
    if isinstance(value, Missing) or (boolean and not value):
        return default_value
    return value


@pass_context
def same(context: RenderContext, value: Operand) -> Operand:
    return value


@pass_context
def length(context: RenderContext, value: Operand) -> int:
    if not isinstance(value, (str, list, tuple, dict, Missing)):
        raise TypeError(f"{kind_of(value)} has no length")
    return len(value)


FILTERS: dict[str, Function] = {
    "abs": absolute,
    "capitalize": text_filter(str.capitalize),
    "count": length,
    "d": default,
    "default": default,
    "dictsort": dictsort,
    "first": pick(lambda elements: elements[0]),
    "float": to_float,
    "indent": indent,
    "int": to_int,
    "items": items,
    "join": join,
    "last": pick(lambda elements: elements[-1]),
    "length": length,
    "list": as_list,
    "lower": text_filter(str.lower),
    "map": map_each,
    "max": extreme(reverse=True),
    "min": extreme(reverse=False),
    "reject": selection(wanted=False, by_attribute=False),
    "rejectattr": selection(wanted=False, by_attribute=True),
    "replace": replace,
    "reverse": reverse,
    "round": round_to,
    "safe": same,
    "select": selection(wanted=True, by_attribute=False),
    "selectattr": selection(wanted=True, by_attribute=True),
    "sort": sort,
    "string": text_filter(str),
    "sum": total,
    "title": title,
    "tojson": tojson,
    "trim": trim,
    "truncate": truncate,
    "unique": unique,
    "upper": text_filter(str.upper),
    "wordcount": wordcount,
}
