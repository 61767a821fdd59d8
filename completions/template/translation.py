"""From Jinja's syntax tree to one that is safe to run: what is not expressly allowed here is refused.

The walk does three things at once, so that they cannot disagree: it refuses what is outside the subset, it puts our
bounded operations (:mod:`completions.template.runtime`) in place of Python's, and it notes which variables are read,
following loops and `set`.
"""

from __future__ import annotations

import inspect
import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from jinja2 import nodes

from completions.template.effects import filtered
from completions.template.filters import FILTERS
from completions.template.lexer import Refused, check_length, not_allowed
from completions.template.paths import NOWHERE, Origin, Path, Step, either, shown
from completions.template.predicates import TESTS
from completions.template.required import required
from completions.template.scopes import Scopes
from completions.text import fault

MAX_DEPTH = 48
"""Levels of one expression. Python's compiler bears 200 levels of brackets, of which a level here makes up to three."""
MAX_NESTING = 12
"""Statements inside statements. Python's own compiler bears 20 loops."""

LOOP_ATTRIBUTES = frozenset(
    {"index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0", "previtem", "nextitem"}
)
_CALL_WEIGHT = 4
"""Steps of the budget for what one of our operations does in Python, beside its node's own."""
_FILTER_WEIGHT = 10
_RESERVED = frozenset({"self", "loop"})

_Handler = Callable[["Translator", Any], tuple[nodes.Expr, Origin]]  # Any: each handler knows its own node type


@dataclass(frozen=True, slots=True)
class Translation:
    """A template that may run."""

    tree: nodes.Template
    reads: tuple[Path, ...]
    """Every place in the variables that the template may read, in the order of the text."""
    constant: str | None
    """What every render yields, when no expression or statement is in it."""
    required: tuple[Path, ...]
    """Places in the variables without which every render fails."""
    blanks: Blanks | None
    """The whole template, if all that it does is put variables into a text."""


class Blanks(NamedTuple):
    """A text with places for variables."""

    pieces: tuple[str, ...]
    """Texts, and between each two of them a place."""
    names: tuple[str, ...]
    """The variable of each place."""


def translate(tree: nodes.Template) -> Translation:
    """Check and rewrite a parsed template, in place.

    :raises Refused: `TEMPLATE_NOT_ALLOWED` or `TEMPLATE_TOO_DEEP`, with the place
    """
    # Before the tree is rewritten.
    translator, needed, blanks = Translator(), required(tree), _blanks(tree)
    translator.block(tree.body)
    return Translation(tree, tuple(translator.scopes.reads), _constant(tree), needed, blanks)


def _blanks(tree: nodes.Template) -> Blanks | None:
    pieces: list[str] = []
    names: list[str] = []
    text = ""
    for statement in tree.body:
        if not isinstance(statement, nodes.Output):
            return None
        for child in statement.nodes:
            if isinstance(child, nodes.TemplateData):
                text += child.data
            elif isinstance(child, nodes.Name):
                pieces += (text, "")
                names.append(child.name)
                text = ""
            else:
                return None
    return Blanks((*pieces, text), tuple(names))


def _constant(tree: nodes.Template) -> str | None:
    pieces: list[str] = []
    for statement in tree.body:
        for child in statement.nodes if isinstance(statement, nodes.Output) else [statement]:
            if not isinstance(child, nodes.TemplateData):
                return None
            pieces.append(child.data)
    return "".join(pieces)


class Translator:
    """One walk over one tree."""

    def __init__(self) -> None:
        self.scopes = Scopes()
        self._depth = 0
        self._nesting = 0
        self._weight = 0
        """Nodes seen since the innermost loop's body began: what one iteration costs."""
        self._captures = 0

    # Statements.

    def block(self, statements: Iterable[nodes.Node]) -> None:
        for statement in statements:
            self._nesting += 1
            if self._nesting > MAX_NESTING:
                raise Refused("TEMPLATE_TOO_DEEP", f"nests more than {MAX_NESTING} statements", statement.lineno)
            self._weight += 1
            match statement:
                case nodes.Output():
                    statement.nodes = [self._output(child) for child in statement.nodes]
                case nodes.If():
                    self._if(statement)
                case nodes.For():
                    self._for(statement)
                case nodes.Assign():
                    statement.node, origin = self.expression(statement.node)
                    self._bind(statement.target, origin)
                case nodes.AssignBlock() if statement.filter is None:
                    self._captures += 1
                    self._scoped(statement.body)
                    self._captures -= 1
                    self._bind(statement.target, NOWHERE)
                case _:
                    raise not_allowed(
                        statement.lineno, f"{type(statement).__name__} is not part of the template language here"
                    )
            self._nesting -= 1

    def _output(self, child: nodes.Expr) -> nodes.Expr:
        if isinstance(child, nodes.TemplateData):
            # A captured block is not output yet: nothing but its own operation would count its text.
            return _operation("<capture>", nodes.Const(child.data), child) if self._captures else child
        expression, _ = self.expression(child)
        self._weight += 1
        return _operation("<capture>", expression, child) if self._captures else expression

    def _if(self, statement: nodes.If) -> None:
        bodies = [statement.body]
        statement.test, _ = self.expression(statement.test)
        for branch in statement.elif_:
            branch.test, _ = self.expression(branch.test)
            bodies.append(branch.body)
        bodies.append(statement.else_)
        self.scopes.join([self._scoped(body) for body in bodies])

    def _for(self, statement: nodes.For) -> None:
        if statement.recursive:
            raise not_allowed(statement.lineno, "recursive loops are not allowed")
        iterable, origin = self.expression(statement.iter)
        elements = origin.each()
        self.scopes.read(elements, statement.lineno)
        outer, self._weight = self._weight, 1
        self.scopes.open()
        self._bind(statement.target, Origin(elements))
        if statement.test is not None:
            statement.test, _ = self.expression(statement.test)
        self.scopes.set("loop", Origin((), elements, is_loop=True))
        self.block(statement.body)
        self.scopes.close()
        weight, self._weight = self._weight, outer
        self._scoped(statement.else_)
        statement.iter = _operation("<iterate>", iterable, statement, nodes.Const(weight))

    def _scoped(self, body: Sequence[nodes.Node]) -> dict[str, Origin]:
        self.scopes.open()
        self.block(body)
        return self.scopes.close()

    def _bind(self, target: nodes.Node, origin: Origin) -> None:
        match target:
            case nodes.Name():
                self._checked_name(target)
                if target.name in _RESERVED:
                    raise not_allowed(target.lineno, f"{target.name!r} cannot be set")
                self.scopes.set(target.name, origin)
            case nodes.Tuple():
                for index, item in enumerate(target.items):
                    part = origin.part(index)
                    self.scopes.read(part.paths, target.lineno)
                    self._bind(item, part)
            case _:
                raise not_allowed(target.lineno, "only names can be set")

    def _checked_name(self, node: nodes.Name) -> None:
        check_length(node.name, node.lineno)
        # Python folds such names, so two variables could become one.
        if unicodedata.normalize("NFKC", node.name) != node.name:
            raise not_allowed(node.lineno, f"the name {node.name!r} is not in normal form (NFKC)")

    # Expressions.

    def expression(self, node: nodes.Node) -> tuple[nodes.Expr, Origin]:
        """Rewrite an expression; say what its value may be."""
        handler = _HANDLERS.get(type(node))
        if handler is None:
            raise not_allowed(node.lineno, f"{type(node).__name__} is not part of the template language here")
        self._depth += 1
        self._weight += 1
        if self._depth > MAX_DEPTH:
            raise Refused("TEMPLATE_TOO_DEEP", f"has an expression of more than {MAX_DEPTH} levels", node.lineno)
        result = handler(self, node)
        self._depth -= 1
        return result

    def _expressions(self, children: Iterable[nodes.Expr]) -> tuple[list[nodes.Expr], list[Origin]]:
        pairs = [self.expression(child) for child in children]
        return [expression for expression, _ in pairs], [origin for _, origin in pairs]

    def _const(self, node: nodes.Const) -> tuple[nodes.Expr, Origin]:
        value = node.value
        if isinstance(value, str) and (wrong := fault(value)) is not None:
            raise not_allowed(node.lineno, f"a string {wrong}")
        if isinstance(value, int) and value.bit_length() > 64:
            raise not_allowed(node.lineno, "an integer must fit 64 bits")
        if isinstance(value, float) and not math.isfinite(value):
            raise not_allowed(node.lineno, "a number must be finite")
        return node, NOWHERE

    def _name(self, node: nodes.Name) -> tuple[nodes.Expr, Origin]:
        self._checked_name(node)
        if node.name == "self":
            raise not_allowed(node.lineno, "'self' has a meaning of its own in Jinja; give the variable another name")
        origin = self.scopes.lookup(node.name)
        if origin.is_loop:
            raise not_allowed(node.lineno, "'loop' can only be used as loop.index, loop.first and so on")
        self.scopes.read(origin.paths, node.lineno)
        return node, origin

    def _getattr(self, node: nodes.Getattr) -> tuple[nodes.Expr, Origin]:
        if isinstance(node.node, nodes.Name):
            loop = self.scopes.lookup(node.node.name)
            if loop.is_loop:
                if node.attr not in LOOP_ATTRIBUTES:
                    raise not_allowed(
                        node.lineno, f"loop has no {node.attr!r}; it has {', '.join(sorted(LOOP_ATTRIBUTES))}"
                    )
                key = nodes.Const(node.attr)
                self._weight += _CALL_WEIGHT
                is_element = node.attr in ("previtem", "nextitem")
                return _operation("<loop>", node.node, node, key), Origin(loop.each() if is_element else ())
        inner, origin = self.expression(node.node)
        return self._step(node, inner, origin, nodes.Const(node.attr), node.attr)

    def _getitem(self, node: nodes.Getitem) -> tuple[nodes.Expr, Origin]:
        inner, origin = self.expression(node.node)
        match node.arg:
            case nodes.Slice(start=start, stop=stop, step=step):
                bounds, _ = self._expressions(bound or nodes.Const(None) for bound in (start, stop, step))
                return _operation("<slice>", inner, node, *bounds), origin
            case nodes.Const(value=str() | int() as value) if not isinstance(value, bool):
                key, _ = self.expression(node.arg)
                return self._step(node, inner, origin, key, value)
            case nodes.Neg(node=nodes.Const(value=int() as value)) if not isinstance(value, bool):
                return self._step(node, inner, origin, nodes.Const(-value), -value)
            case nodes.Tuple():
                raise not_allowed(node.lineno, "a subscript takes one key")
            case _:
                key, _ = self.expression(node.arg)
                return self._step(node, inner, origin, key, Step.ANY)

    def _step(
        self, node: nodes.Expr, inner: nodes.Expr, origin: Origin, key: nodes.Expr, step: str | int | Step
    ) -> tuple[nodes.Expr, Origin]:
        if isinstance(step, str):
            check_length(step, node.lineno)
        found = origin.at(step)
        self.scopes.read(found.paths, node.lineno)
        path = shown(found.paths[0]) if found.paths else None
        return _operation("<get>", inner, node, key, nodes.Const(path)), found

    def _filter(self, node: nodes.Filter) -> tuple[nodes.Expr, Origin]:
        if node.name not in FILTERS:
            raise not_allowed(
                node.lineno, f"there is no filter {node.name!r} here; there are {', '.join(sorted(FILTERS))}"
            )
        if node.node is None:
            raise not_allowed(node.lineno, "a filter needs a value in front of it")
        inner, origin = self.expression(node.node)
        node.node = inner
        self._weight += _FILTER_WEIGHT
        given = self._arguments(node, FILTERS[node.name])
        default = given.get("default_value")
        arguments = self._rewrite_arguments(node)
        if node.name in ("default", "d"):
            return node, either(origin, arguments[id(default)] if default is not None else NOWHERE)
        return node, filtered(node, given.get("attribute"), origin, self.scopes)

    def _test(self, node: nodes.Test) -> tuple[nodes.Expr, Origin]:
        if node.name not in TESTS:
            raise not_allowed(node.lineno, f"there is no test {node.name!r}; there are {', '.join(sorted(TESTS))}")
        node.node, _ = self.expression(node.node)
        self._weight += _CALL_WEIGHT
        self._arguments(node, TESTS[node.name])
        self._rewrite_arguments(node)
        return node, NOWHERE

    def _arguments(self, node: nodes.Filter | nodes.Test, function: Callable[..., object]) -> dict[str, Any]:
        """The arguments by the names of their parameters."""
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise not_allowed(node.lineno, "* and ** arguments are not allowed")
        named = {str(keyword.key): keyword.value for keyword in node.kwargs}
        try:
            given = _signature(function).bind(None, None, *node.args, **named).arguments
        except TypeError as error:
            raise not_allowed(node.lineno, f"{node.name!r} does not take these arguments: {error}") from None
        for parameter, allowed in (("name", FILTERS), ("test", TESTS)):
            name = given.get(parameter)
            if name is not None and not (isinstance(name, nodes.Const) and name.value in allowed):
                raise not_allowed(node.lineno, f"{node.name!r} needs the name of one of {', '.join(sorted(allowed))}")
        return given

    def _rewrite_arguments(self, node: nodes.Filter | nodes.Test) -> dict[int, Origin]:
        """:return: the origins, by the identity of the node as it was written"""
        written = [*node.args, *(keyword.value for keyword in node.kwargs)]
        rewritten, origins = self._expressions(written)
        node.args = rewritten[: len(node.args)]
        for keyword, expression in zip(node.kwargs, rewritten[len(node.args) :], strict=True):
            keyword.value = expression
        return {id(argument): origin for argument, origin in zip(written, origins, strict=True)}

    def _arithmetic(self, node: nodes.BinExpr) -> tuple[nodes.Expr, Origin]:
        self._weight += _CALL_WEIGHT
        node.left, left = self.expression(node.left)
        node.right, right = self.expression(node.right)
        return node, either(left, right) if isinstance(node, nodes.Add) else NOWHERE

    def _choice(self, node: nodes.BinExpr) -> tuple[nodes.Expr, Origin]:
        node.left, left = self.expression(node.left)
        node.right, right = self.expression(node.right)
        return node, either(left, right)

    def _unary(self, node: nodes.UnaryExpr) -> tuple[nodes.Expr, Origin]:
        node.node, _ = self.expression(node.node)
        return node, NOWHERE

    def _conditional(self, node: nodes.CondExpr) -> tuple[nodes.Expr, Origin]:
        node.test, _ = self.expression(node.test)
        node.expr1, first = self.expression(node.expr1)
        node.expr2, second = self.expression(node.expr2 or nodes.Const(""))
        return node, either(first, second)

    def _compare(self, node: nodes.Compare) -> tuple[nodes.Expr, Origin]:
        operands = [node.expr, *(operand.expr for operand in node.ops)]
        rewritten, _ = self._expressions(operands)
        if [operand.op for operand in node.ops] in (["in"], ["notin"]):
            contains = _operation("<contains>", rewritten[1], node, rewritten[0])
            return (nodes.Not(contains, lineno=node.lineno) if node.ops[0].op == "notin" else contains), NOWHERE
        # Comparing with a constant costs no more than the constant is long; all else is weighed first.
        if len(operands) > 2 or not any(isinstance(operand, nodes.Const) for operand in operands):
            rewritten = [_operation("<weigh>", operand, node) for operand in rewritten]
        node.expr = rewritten[0]
        for operand, expression in zip(node.ops, rewritten[1:], strict=True):
            operand.expr = expression
        return node, NOWHERE

    def _concat(self, node: nodes.Concat) -> tuple[nodes.Expr, Origin]:
        self._weight += _CALL_WEIGHT
        first, *rest = self._expressions(node.nodes)[0]
        return _operation("<concat>", first, node, *rest), NOWHERE

    def _sequence(self, node: nodes.List | nodes.Tuple) -> tuple[nodes.Expr, Origin]:
        node.items, origins = self._expressions(node.items)
        return node, Origin((), either(*origins).paths)

    def _dict(self, node: nodes.Dict) -> tuple[nodes.Expr, Origin]:
        for pair in node.items:
            pair.key, _ = self.expression(pair.key)
            pair.value, _ = self.expression(pair.value)
        return node, NOWHERE

    def _call(self, node: nodes.Call) -> tuple[nodes.Expr, Origin]:
        raise not_allowed(
            node.node.lineno, "calls are not allowed; use a filter, such as `| items` for an object's members"
        )


_HANDLERS: dict[type[nodes.Node], _Handler] = {
    nodes.Const: Translator._const,
    nodes.Name: Translator._name,
    nodes.Getattr: Translator._getattr,
    nodes.Getitem: Translator._getitem,
    nodes.Filter: Translator._filter,
    nodes.Test: Translator._test,
    nodes.CondExpr: Translator._conditional,
    nodes.Compare: Translator._compare,
    nodes.Concat: Translator._concat,
    nodes.List: Translator._sequence,
    nodes.Tuple: Translator._sequence,
    nodes.Dict: Translator._dict,
    nodes.Call: Translator._call,
    nodes.And: Translator._choice,
    nodes.Or: Translator._choice,
    nodes.Not: Translator._unary,
    nodes.Neg: Translator._unary,
    nodes.Pos: Translator._unary,
    **dict.fromkeys(
        (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow), Translator._arithmetic
    ),
}
"""The allow-list of expressions."""


def _operation(name: str, value: nodes.Expr, at: nodes.Node, *arguments: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(arguments), [], None, None, lineno=at.lineno)


@cache
def _signature(function: Callable[..., object]) -> inspect.Signature:
    return inspect.signature(function)
