"""The one Jinja environment, shared by all templates: parsing, and running what was allowed."""

from __future__ import annotations

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2 import lexer as jinja
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from completions.template.filters import FILTERS
from completions.template.lexer import BoundedLexer, Refused
from completions.template.predicates import TESTS
from completions.template.runtime import (
    OPERATIONS,
    Budget,
    Missing,
    Operand,
    RenderContext,
    arithmetic,
    finalize,
    negate,
    new_context,
)
from completions.template.translation import Translation, translate
from kit.json import Json

_FILE_NAME = "<template>"
_OF_EXTENSIONS = tuple(f"Encountered unknown tag '{tag}'" for tag in ("break", "continue", "debug", "do", "trans"))
"""What Jinja says of its own extensions, which are valid elsewhere."""
_MAX_SHOWN = 200
"""Characters of one of Python's messages that an error shows; some hold the values that they are about."""


class Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, narrowed: bounded operations only, no attributes of Python objects, no globals.

    The syntax tree is checked and rewritten before it runs, so most of the sandbox is out of a template's reach; it
    stays as the second wall.
    """

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "%", "**"})
    intercepted_unops = frozenset({"+", "-"})
    context_class = RenderContext

    def __init__(self) -> None:
        # Not optimised: folding constants would run filters while compiling, outside of any budget.
        super().__init__(
            undefined=Missing, finalize=finalize, keep_trailing_newline=True, optimized=False, cache_size=0
        )
        self.filters = {**FILTERS, **OPERATIONS}
        self.tests = dict(TESTS)
        self.globals.clear()
        self._lexer = BoundedLexer(self)

    @property
    def lexer(self) -> jinja.Lexer:
        return self._lexer

    def call_binop(self, context: Context, operator: str, left: Operand, right: Operand) -> Operand:
        assert isinstance(context, RenderContext)  # noqa: S101  # its class is ours, above
        return arithmetic(context.budget, operator, left, right)

    def call_unop(self, context: Context, operator: str, arg: Operand) -> Operand:
        return negate(operator, arg)

    def getattr(self, obj: Operand, attribute: str) -> Operand:
        raise Refused("TEMPLATE_FAILED", "attributes are read by our own operation only")

    def getitem(self, obj: Operand, argument: Operand) -> Operand:
        raise Refused("TEMPLATE_FAILED", "elements are read by our own operation only")


_ENVIRONMENT = Environment()


def parse(text: str) -> Translation:
    """The checked and rewritten syntax tree.

    :raises Refused: with a reason and the place
    """
    try:
        return translate(Parser(_ENVIRONMENT, text).parse())
    except TemplateSyntaxError as error:
        message = error.message or "is not valid"
        is_extension = message.startswith(_OF_EXTENSIONS)
        raise Refused("TEMPLATE_NOT_ALLOWED" if is_extension else "TEMPLATE_SYNTAX", message, error.lineno) from None
    except RecursionError:
        raise Refused("TEMPLATE_TOO_DEEP", "is nested too deeply") from None


class Program:
    """A template compiled to Python code."""

    __slots__ = ("_template",)

    def __init__(self, tree: nodes.Template) -> None:
        """:param tree: translated"""
        try:
            code = _ENVIRONMENT.compile(tree, filename=_FILE_NAME)
        except RecursionError:
            raise Refused("TEMPLATE_TOO_DEEP", "is nested too deeply") from None
        self._template = Template.from_code(_ENVIRONMENT, code, _ENVIRONMENT.globals)

    def run(self, variables: dict[str, Json], budget: Budget) -> str:
        """The rendered text; what is missing is noted in the budget.

        :raises Refused: with a reason and, where it can be told, the place of the statement
        """
        context = new_context(_ENVIRONMENT, variables, budget)
        try:
            return "".join([budget.emit(piece) for piece in self._template.root_render_func(context)])
        except Refused as refusal:
            refusal.place = refusal.place or self._place_of(refusal)
            raise
        except (TypeError, ValueError, ArithmeticError, LookupError, RecursionError, TemplateError) as error:
            raise Refused("TEMPLATE_FAILED", f"fails: {str(error)[:_MAX_SHOWN]}", self._place_of(error)) from None

    def _place_of(self, error: Exception) -> int:
        place, trace = 0, error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == _FILE_NAME:
                place = self._template.get_corresponding_lineno(trace.tb_lineno)
            trace = trace.tb_next
        return place
