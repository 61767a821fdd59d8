"""What filters make of the places that their values come from, and what they read of them."""

from __future__ import annotations

from jinja2 import nodes

from completions.template.lexer import check_length, not_allowed
from completions.template.paths import NOWHERE, Origin, Step, placed, shown, steps_of
from completions.template.scopes import Scopes

_SAME_VALUES = frozenset({"list", "reject", "rejectattr", "reverse", "safe", "select", "selectattr", "sort", "unique"})
_ONE_ELEMENT = frozenset({"first", "last", "max", "min"})
_PAIRS = frozenset({"dictsort", "items"})


def filtered(node: nodes.Filter, attribute: nodes.Node | None, value: Origin, scopes: Scopes) -> Origin:
    """What the filter yields, noting what it reads of its value.

    :param attribute: its `attribute` argument, which is replaced by one that knows where the elements are
    """
    elements = Origin(value.each())
    if attribute is not None:
        if not isinstance(attribute, nodes.Const) or not isinstance(attribute.value, (str, int)):
            raise not_allowed(node.lineno, "an attribute must be given as a string")
        name = str(attribute.value)
        check_length(name, node.lineno)
        attribute.value = placed(shown(elements.paths[0]) if elements.paths else "", name)
        for step in steps_of(name):
            elements = elements.at(step)
            scopes.read(elements.paths, node.lineno)
    if node.name == "map":
        return Origin((), () if attribute is None else elements.paths)
    if node.name in _PAIRS:
        pairs = tuple((*path, Step.PAIR) for path in value.paths)
        scopes.read(pairs, node.lineno)
        return Origin((), pairs)
    if node.name in _ONE_ELEMENT:
        scopes.read(value.each(), node.lineno)
        return Origin(value.each())
    return value if node.name in _SAME_VALUES else NOWHERE
