"""Places in the variables without which no render of a template succeeds, as far as its text tells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from jinja2 import nodes

from completions.template.paths import Path

_SUPPLIES = frozenset({"d", "default"})


def required(tree: nodes.Template) -> tuple[Path, ...]:
    """What is used wherever the values lead: printed, tested or looped over outside of branches and loops, and neither
    given a `default` nor only asked for with `is defined`. In the order of the text; names only, from a variable down.
    A place implies those above it, which are not listed for that alone.

    :param tree: as parsed, before it is translated
    """
    return tuple(dict.fromkeys(_of(tree.body, set())))


def _of(statements: Iterable[nodes.Node], bound: set[str]) -> Iterator[Path]:
    for statement in statements:
        match statement:
            case nodes.Output():
                for child in statement.nodes:
                    yield from _used(child, bound)
            case nodes.If():
                yield from _used(statement.test, bound)
                # What a branch sets is the template's from here on; whether it was taken cannot be said.
                bound |= {name.name for name in statement.find_all(nodes.Name) if name.ctx == "store"}
            case nodes.For():
                yield from _used(statement.iter, bound)
            case nodes.Assign():
                # Naming what is missing is no use of it.
                bound |= _names(statement.target)
            case nodes.AssignBlock():
                yield from _of(statement.body, set(bound))
                bound |= _names(statement.target)


def _used(node: nodes.Node, bound: set[str]) -> Iterator[Path]:
    path = _path(node)
    if path is not None:
        if path[0] not in bound:
            yield path
        return
    match node:
        case nodes.Getattr():
            yield from _used(node.node, bound)
        case nodes.Getitem():
            yield from _used(node.node, bound)
            yield from _used(node.arg, bound)
        case nodes.Filter() if node.node is not None and node.name not in _SUPPLIES:
            yield from _used(node.node, bound)
        case nodes.And() | nodes.Or():
            yield from _used(node.left, bound)
        case nodes.CondExpr():
            yield from _used(node.test, bound)
        case nodes.BinExpr():
            yield from _used(node.left, bound)
            yield from _used(node.right, bound)
        case nodes.UnaryExpr():
            yield from _used(node.node, bound)
        case nodes.Compare():
            yield from _used(node.expr, bound)
            for operand in node.ops[:1]:
                yield from _used(operand.expr, bound)
        case nodes.Concat():
            for each in node.nodes:
                yield from _used(each, bound)


def _path(node: nodes.Node) -> Path | None:
    """Where `a.b['c']` leads; None for what is no chain of names."""
    steps: list[str] = []
    while True:
        match node:
            case nodes.Name():
                return (node.name, *reversed(steps))
            case nodes.Getattr():
                steps.append(node.attr)
            case nodes.Getitem(arg=nodes.Const(value=str() as name)):
                steps.append(name)
            case _:
                return None
        node = node.node


def _names(target: nodes.Node) -> set[str]:
    return {target.name} if isinstance(target, nodes.Name) else {each.name for each in target.find_all(nodes.Name)}
