"""Constant parts of a template, tried when it is written: what fails without any variables fails with all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from jinja2 import nodes

from completions.template.environment import Program
from completions.template.runtime import Budget


def check_constants(tree: nodes.Template) -> None:
    """Whether the constant expressions that every render works out can be worked out, within one render's budget.

    :param tree: translated
    :raises Refused: as a render, with the place of the expression
    """
    statements: list[nodes.Node] = list(_of(tree.body))
    if statements:
        Program(nodes.Template(statements, lineno=1)).run({}, Budget())


def _of(statements: Iterable[nodes.Node]) -> Iterator[nodes.Node]:
    for statement in statements:
        match statement:
            case nodes.Output():
                for child in statement.nodes:
                    if _is_constant(child):
                        yield nodes.Output([child], lineno=child.lineno)
                    else:
                        yield from _within(child)
            case nodes.If():
                yield from _within(statement.test)
            case nodes.For():
                yield from _within(statement.iter)
            case nodes.Assign():
                yield from _within(statement.node)
            case nodes.AssignBlock():
                yield from _of(statement.body)


def _within(node: nodes.Node) -> Iterator[nodes.Node]:
    """What is constant of an expression and worked out whenever it is, as statements."""
    if _is_constant(node):
        yield nodes.Assign(nodes.Name("_", "store", lineno=node.lineno), node, lineno=node.lineno)
        return
    parts: list[nodes.Node]
    match node:
        case nodes.And() | nodes.Or():
            parts = [node.left]
        case nodes.CondExpr():
            parts = [node.test]
        case nodes.Compare():
            parts = [node.expr, *(operand.expr for operand in node.ops[:1])]
        case _:
            parts = list(node.iter_child_nodes())
    for part in parts:
        yield from _within(part)


def _is_constant(node: nodes.Node) -> bool:
    """Whether there is something to work out, and no name in it."""
    if isinstance(node, (nodes.Const, nodes.TemplateData, nodes.Name, nodes.Keyword, nodes.Pair, nodes.Operand)):
        return False
    return node.find(nodes.Name) is None
