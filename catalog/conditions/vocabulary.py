"""The operators and functions of conditions, with the types that they take: what is not here cannot be written.

CEL's checker knows no `==`, `<` or `in` between whole and other numbers, while its evaluator does; declared here, they
are checked too, so that `context.age == 30` and `context.age >= 17.5` both hold and `context.age == "30"` is refused.
Arithmetic stays CEL's, among whole numbers or among others: the evaluator has no other, and functions in Python would
leak 128 bytes whenever one is called (cel-expr-python 0.1.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

from catalog.conditions.fields import Field, FieldKind

if TYPE_CHECKING:
    from cel_expr_python import cel

Signature: TypeAlias = "tuple[str, ...]"
"""The result's type, then the parameters'."""

_B, _D, _I, _S, _T, _U, _L = "bool", "double", "int", "string", "timestamp", "duration", "list"
_NUMBERS = ((_D, _D), (_D, _I), (_I, _D), (_I, _I))
_ORDERED = (*_NUMBERS, (_S, _S), (_T, _T), (_U, _U))

_OPERATORS: Mapping[str, Iterable[Signature]] = {
    **{sign: [(_B, *pair) for pair in (*_ORDERED, (_B, _B), (_L, _L))] for sign in ("_==_", "_!=_")},
    **{sign: [(_B, *pair) for pair in _ORDERED] for sign in ("_<_", "_<=_", "_>_", "_>=_")},
    "_+_": [(_D, _D, _D), (_I, _I, _I), (_T, _T, _U), (_T, _U, _T), (_U, _U, _U)],
    "_-_": [(_D, _D, _D), (_I, _I, _I), (_U, _T, _T), (_T, _T, _U), (_U, _U, _U)],
    "_*_": [(_D, _D, _D), (_I, _I, _I)],
    "_/_": [(_D, _D, _D), (_I, _I, _I)],
    "_%_": [(_I, _I, _I)],
    "-_": [(_D, _D), (_I, _I)],
    "_[_]": [("dyn", _L, _I)],
    "@in": [
        *((_B, a, f"list<{b}>") for a, b in _NUMBERS),
        *((_B, kind, f"list<{kind}>") for kind in (_S, _B, _T)),
    ],
}
_FUNCTIONS: Mapping[str, Iterable[Signature]] = {
    "size": [(_I, _S), (_I, _L)],
    "int": [(_I, _D), (_I, _I), (_I, _S)],
    "double": [(_D, _D), (_D, _I), (_D, _S)],
    "string": [(_S, _D), (_S, _I), (_S, _S)],
    "timestamp": [(_T, _S)],
    "duration": [(_U, _S)],
}
_METHODS: Mapping[str, Iterable[Signature]] = {
    **{name: [(_B, _S, _S)] for name in ("startsWith", "endsWith", "contains", "matches")},
    "size": [(_I, _S), (_I, _L)],
    **{
        # Without a time zone: a zone's rules are files of the machine, and every machine must decide alike.
        name: [(_I, _T)]
        for name in ("getFullYear", "getMonth", "getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear")
    },
    **{name: [(_I, _T), (_I, _U)] for name in ("getHours", "getMinutes", "getSeconds")},
}

FUNCTIONS = tuple(sorted({*_FUNCTIONS, *_METHODS}))

_CONFIG = """
name: conditions
stdlib:
  include_macros: [all, exists, exists_one]
  include_functions:
  - name: "_?_:_"
  - name: "_&&_"
  - name: "_||_"
  - name: "!_"
  - name: "@not_strictly_false"
"""


@cache
def evaluator() -> cel.Env:
    """Where checked conditions are evaluated, whatever their fields: the process's one.

    Loads CEL: about 7 MB and 10 ms, 50 ms from a cold disk.
    """
    return checker(())


def binder(dates: Iterable[str]) -> cel.Env:
    """Where values are bound. Only variables that hold dates need their declaration; without any, all share one.

    One with dates costs 34 KB and 0.1 ms.
    """
    from cel_expr_python import cel

    declared = dict.fromkeys(dates, cel.Type.TIMESTAMP)
    if not declared:
        return evaluator()
    bare = cel.NewEnvConfigFromYaml("name: binder\nstdlib:\n  disable: true\n")
    made = cel.NewEnv(config=bare, variables=declared)
    # An environment learns its declarations when it first compiles; before, it binds no date (0.1.3).
    made.compile("true")
    return made


def checker(fields: Iterable[Field]) -> cel.Env:
    """Where conditions over these fields are checked. Costs 200 KB and 1 ms, so it is not kept with what it checked."""
    from cel_expr_python import cel

    types, config, functions = _shared()
    variables: dict[str, cel.Type] = {}
    for field in fields:
        variables[f"context.{field.name}"] = types[_KINDS[field.kind]]
        variables[f"present.{field.name}"] = types[_B]
    return cel.NewEnv(config=config, variables=variables, functions=functions)


_KINDS = {
    FieldKind.STRING: _S,
    FieldKind.NUMBER: _D,
    FieldKind.BOOLEAN: _B,
    FieldKind.DATE: _T,
    FieldKind.LIST: _L,
}


@cache
def _shared() -> tuple[dict[str, cel.Type], cel.EnvConfig, list[cel.FunctionDecl]]:
    """What all environments have in common, made once."""
    from cel_expr_python import cel

    dyn = cel.Type.DYN
    plain = {
        _B: cel.Type.BOOL,
        _D: cel.Type.DOUBLE,
        _I: cel.Type.INT,
        _S: cel.Type.STRING,
        _T: cel.Type.TIMESTAMP,
        _U: cel.Type.DURATION,
        _L: cel.Type.List(dyn),
        "dyn": dyn,
    }
    types = {**plain, **{f"list<{name}>": cel.Type.List(made) for name, made in plain.items()}}

    def overload(name: str, signature: Signature, *, is_member: bool = False) -> cel.Overload:
        return cel.Overload(
            f"{name}({','.join(signature[1:])}){'.' if is_member else ''}",
            return_type=types[signature[0]],
            parameters=[types[parameter] for parameter in signature[1:]],
            is_member=is_member,
        )

    overloads: dict[str, list[cel.Overload]] = {}
    for table, is_member in ((_OPERATORS, False), (_FUNCTIONS, False), (_METHODS, True)):
        for name, signatures in table.items():
            overloads.setdefault(name, []).extend(overload(name, each, is_member=is_member) for each in signatures)
    functions = [cel.FunctionDecl(name, made) for name, made in overloads.items()]
    return types, cel.NewEnvConfigFromYaml(_CONFIG), functions
