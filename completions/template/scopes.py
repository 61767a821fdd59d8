"""Which name stands for what, while a template is walked, and what of the variables it reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from completions.template.lexer import Refused
from completions.template.paths import Origin, Path, either

MAX_PATH_STEPS = 32


class Scopes:
    """Jinja's rules: a loop and a captured block keep what they set to themselves, a branch of an `if` does not."""

    def __init__(self) -> None:
        self.reads: dict[Path, None] = {}
        """Every place read, in the order of the text."""
        self._open: list[dict[str, Origin]] = [{}]

    def open(self) -> None:
        self._open.append({})

    def close(self) -> dict[str, Origin]:
        """:return: what was set in the scope"""
        return self._open.pop()

    def set(self, name: str, origin: Origin) -> None:
        self._open[-1][name] = origin

    def lookup(self, name: str) -> Origin:
        """What a name stands for: what it was set to, else the variable of that name."""
        for scope in reversed(self._open):
            if name in scope:
                return scope[name]
        return Origin(((name,),))

    def join(self, branches: Sequence[dict[str, Origin]]) -> None:
        """After an `if`: a name is what any branch set it to, and what it was before where a branch left it alone.

        :param branches: what each branch set; an absent `else` is a branch that sets nothing
        """
        for name in dict.fromkeys(name for branch in branches for name in branch):
            self.set(name, either(*(branch.get(name) or self.lookup(name) for branch in branches)))

    def read(self, paths: Iterable[Path], line: int) -> None:
        """:raises Refused: `TEMPLATE_TOO_DEEP`"""
        for path in paths:
            if len(path) > MAX_PATH_STEPS:
                raise Refused("TEMPLATE_TOO_DEEP", f"reads more than {MAX_PATH_STEPS} levels deep", line)
            self.reads[path] = None
